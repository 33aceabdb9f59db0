"""A model is converted to GGUF once, for all tests that quantize it."""

import os
from pathlib import Path

from medllm.models.load import resolve_model
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.work import open_work


class Stopped(Exception):
    """As a command ends that is killed."""


def after_conversion(config: QuantizeConfig, f16: Path) -> QuantizeConfig:
    """The same, with an output where an earlier command was stopped once the model was converted.

    `quantize` resumes there, so that it does not start the converter, which takes 5 s of CPU.
    """
    assert config.output
    model = resolve_model(config.model)
    calibration = Calibration.open(model, config.calibration) if config.calibration else None
    try:
        with open_work(model, calibration, config) as work:
            os.link(f16, work.scratch / "model-F16.gguf")
            raise Stopped
    except Stopped:
        return config
