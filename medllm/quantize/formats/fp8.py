"""FP8 weights and activations through llm-compressor."""

from pathlib import Path

from medllm import console
from medllm.quantize.backends.llm_compressor import (
    LINEAR,
    check_compressor,
    compress,
    silenced_compressor,
)
from medllm.quantize.config import Fp8Format
from medllm.quantize.work import Made, Work, on_processor

SCHEMES = {"dynamic": "FP8_DYNAMIC", "static": "FP8"}
"""The names of compressed-tensors' preset schemes."""


def check_ahead(choice: Fp8Format) -> None:
    """Raise SetupError where llm-compressor is not installed."""
    check_compressor("FP8")


def make(choice: Fp8Format, work: Work, folder: Path) -> Made:
    """Write an FP8 model in compressed-tensors' layout.

    Raises:
        ArtifactError: llm-compressor cannot quantize this model.
    """
    how = "" if choice.uses_calibration else ", which uses no calibration text"
    kernel = on_processor("no processor computes in it: Ada and Hopper GPUs do")
    console.notice(f"quantize: FP8 {choice.scheme}{how}{kernel}")
    with silenced_compressor():
        from llmcompressor.modifiers.quantization import QuantizationModifier

        modifier = QuantizationModifier(scheme=SCHEMES[choice.scheme], **LINEAR)
        return compress([modifier], work, folder, calibrate=choice.uses_calibration)
