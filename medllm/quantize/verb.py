"""The quantize verb."""

from functools import partial
from pathlib import Path
from types import ModuleType

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest
from medllm.errors import ArtifactError, ConfigError
from medllm.models.load import is_quantized, resolve_model
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import Format, QuantizeConfig
from medllm.quantize.formats import gguf, gptq
from medllm.quantize.quality import Holdouts, measure_quality, open_holdouts
from medllm.quantize.work import Made, Work, open_work

FORMATS: dict[str, ModuleType] = {"gptq": gptq, "gguf": gguf}


def quantize(config: QuantizeConfig) -> list[Manifest]:
    """One artifact a format, each in its own folder below the output, with its quality beside it.

    Raises:
        ConfigError: a format that calibrates without a calibration set, or no output.
        ArtifactError: the model or the calibration set is missing, altered or of another kind, or
            the model is quantized already.
        SetupError: the format's extra is not installed.
    """
    check_ahead(config)
    model = resolve_model(config.model, kinds=("model",))
    if model.is_gguf or is_quantized(model.location):
        fix = "name the model it was made from"
        raise ArtifactError(f"{model.location} is quantized already", fix)
    if config.output is None:
        raise ConfigError("quantize: no output is named", "--output DIR")
    calibration = Calibration.open(model, config.calibration) if config.calibration else None
    holdouts = open_holdouts(config, calibration.source if calibration else None)
    with open_work(model, calibration, config.output, config.max_memory_gib) as work:
        return [_quantize_one(config, choice, work, holdouts) for choice in config.formats]


def check_ahead(config: QuantizeConfig) -> None:
    """Raise what can be known before the inputs are there: a recipe asks this before it starts."""
    for choice in config.formats:
        FORMATS[choice.format].check_ahead(choice)
        if choice.needs_calibration and config.calibration is None:
            fix = "--calibration DIR; make one with `medllm calibrate --mix pubmedqa`"
            message = f"{choice.folder} calibrates, and no calibration set is named"
            raise ConfigError(message, fix)


def _quantize_one(
    config: QuantizeConfig, choice: Format, work: Work, holdouts: Holdouts | None
) -> Manifest:
    assert config.output is not None
    folder = config.output / choice.folder
    one = config.model_copy(update={"formats": (choice,), "output": folder})
    heard = choice.uses_calibration or holdouts
    sets = [work.calibration.source] if work.calibration and heard else []
    job = Job.of(one, "quantized", "quantize", choice.format, work.model, *sets)
    return produce(job, partial(_make, choice, work, holdouts))


def _make(choice: Format, work: Work, holdouts: Holdouts | None, folder: Path) -> Outcome:
    """The quantized model, its size, where its calibration is from, and its quality."""
    made: Made = FORMATS[choice.format].make(choice, work, folder)
    files = [made.weights] if made.weights.is_file() else made.weights.glob("*.safetensors")
    size = sum(file.stat().st_size for file in files)
    results = made.results | {"bytes": size, "parent_bytes": work.model.weight_bytes}
    if made.texts and work.calibration:
        results["calibration"] = work.calibration.origin
    if holdouts:
        results |= measure_quality(work.model, made.weights, holdouts)
    return Outcome(Counts(examples=made.texts), results, made.device)
