"""The quantize verb."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType

from medllm import console
from medllm.artifacts.digest import digest_file
from medllm.artifacts.gguf_files import gguf_in
from medllm.artifacts.job import Job, Outcome, begin_work, check_output, finished_manifest, produce
from medllm.artifacts.manifest import Counts, Manifest
from medllm.clinical.look_alikes import LOOK_ALIKES
from medllm.clinical.terms import TERMS
from medllm.errors import ArtifactError, ConfigError
from medllm.models.foreign import check_files_finite, check_fits
from medllm.models.gpu import describe_device
from medllm.models.load import (
    ModelRef,
    auto_class,
    computed_in,
    is_quantized,
    load_tokenizer,
    resolve_model,
)
from medllm.models.memory import within_memory
from medllm.models.weights import weight_files
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import Format, QuantizeConfig
from medllm.quantize.estimate import check_disk
from medllm.quantize.formats import awq, bnb, fp8, gguf, gptq, w8a8
from medllm.quantize.gate import apply_gate, check_can_judge
from medllm.quantize.gguf.architectures import check_architecture
from medllm.quantize.holdouts import Holdouts, open_holdouts
from medllm.quantize.quality.measure import measure_quality
from medllm.quantize.quality.reference import Reference
from medllm.quantize.quality.report import Subject
from medllm.quantize.summary import show_serving, table_of
from medllm.quantize.work import Made, Work, open_work

FORMATS: dict[str, ModuleType] = {
    "gptq": gptq,
    "awq": awq,
    "gguf": gguf,
    "bnb": bnb,
    "fp8": fp8,
    "w8a8": w8a8,
}


@within_memory(
    "quantize",
    "lower quantize.max_memory_gib or a format's batch_size; GGUF and bnb take the least",
)
def quantize(config: QuantizeConfig) -> list[Manifest]:
    """One artifact a format, each in its own folder below the output, with its quality beside it.

    Raises:
        ConfigError: a format that calibrates without a calibration set, or no output.
        ArtifactError: the model or the calibration set is missing, altered or of another kind, or
            the model is quantized already.
        SetupError: the format's extra is not installed.
        GateError: every format is made, and one lost more than `gate` allows.
    """
    check_ahead(config)
    model = resolve_model(config.model, kinds=("model", "quantized"))
    _check_unquantized(model.path)
    if config.output is None:
        raise ConfigError("quantize: no output is named", "--output DIR")
    calibration = Calibration.open(model, config.calibration) if config.calibration else None
    check_fits(model.path, auto_class(model.location))
    check_files_finite(model.path)
    load_tokenizer(model.location)  # each format keeps it
    if any(choice.format == "gguf" for choice in config.formats):
        check_architecture(model.path)
    check_disk(model.path, config)
    holdouts = open_holdouts(config, calibration.source if calibration else None)
    check_can_judge(config, holdouts)
    jobs = [_job(config, choice, model, calibration, holdouts) for choice in config.formats]
    todo = [job for job in jobs if finished_manifest(job) is None]
    for job in todo:
        check_output(job)
    begin_work()
    if todo and calibration and any(choice.uses_calibration for choice in config.formats):
        len(calibration.token_ids)  # they are cut now, and kept: another tokenizer's set is refused
    # where all is there already, nothing is touched
    with open_work(model, calibration, config) if todo else nullcontext() as work:
        reference = None
        if work and holdouts:
            reference = Reference(
                model, holdouts, work.scratch, formats=len(todo), dtype=config.dtype
            )
        made = {
            choice.folder: produce(job, partial(_make, config, choice, work, reference))
            for choice, job in zip(config.formats, jobs, strict=True)
        }
    manifests = list(made.values())
    if len(manifests) > 1:
        console.table(*table_of(manifests))
    if config.gate:
        apply_gate(config.gate, config.output, made)
    return manifests


def check_ahead(config: QuantizeConfig) -> None:
    """Raise what can be known before the inputs are there: a recipe asks this before it starts.

    Raises:
        ConfigError: a format that calibrates without a calibration set, or a gate without texts.
        ArtifactError: the model is here, and is quantized already.
    """
    if config.model and Path(config.model).exists():
        _check_unquantized(gguf_in(Path(config.model)))
    for choice in config.formats:
        FORMATS[choice.format].check_ahead(choice)
        if choice.needs_calibration and config.calibration is None:
            fix = "--calibration DIR; make one with `medllm calibrate --mix pubmedqa`"
            message = f"{choice.folder} calibrates, and no calibration set is named"
            raise ConfigError(message, fix)
    if config.gate and config.calibration is None and config.holdouts is None:
        fix = "--calibration DIR, with its holdouts, or quantize.holdouts"
        raise ConfigError("quantize.gate: there is no held-out text to judge by", fix)


def _check_unquantized(model: Path) -> None:
    if model.suffix == ".gguf" or is_quantized(str(model)):
        raise ArtifactError(f"{model} is quantized already", "name the model it was made from")


def _job(
    config: QuantizeConfig,
    choice: Format,
    model: ModelRef,
    calibration: Calibration | None,
    holdouts: Holdouts | None,
) -> Job:
    assert config.output is not None
    folder = config.output / choice.folder
    one = config.model_copy(update={"formats": (choice,), "output": folder})
    sets = [calibration.source] if calibration and choice.uses_calibration else []
    if holdouts and holdouts.source not in sets:
        sets.append(holdouts.source)
    job = Job.of(one, "quantized", "quantize", choice.format, model, *sets)
    # the quality report is made with these lists
    return job.deciding(lists=[digest_file(LOOK_ALIKES), digest_file(TERMS)]) if holdouts else job


def _make(
    config: QuantizeConfig,
    choice: Format,
    work: Work | None,
    reference: Reference | None,
    folder: Path,
) -> Outcome:
    """The quantized model, its size, where its calibration is from, and its quality."""
    assert work is not None  # there is something to do
    began = time.monotonic()
    made: Made = FORMATS[choice.format].make(choice, work, folder)
    seconds = time.monotonic() - began
    files = [made.weights] if made.weights.is_file() else weight_files(made.weights)
    size = sum(file.stat().st_size for file in files)
    sizes = {"bytes": size, "parent_bytes": work.model.weight_bytes}
    results = made.results | sizes | {"seconds": seconds}
    results["computed_in"] = computed_in(work.model, work.dtype)
    if made.texts and work.calibration:
        results["calibration"] = work.calibration.origin
    if reference:
        results |= measure_quality(reference, made, choice, Subject.of(config, choice))
    return Outcome(Counts(examples=made.texts), results, describe_device(made.device))


def describe(manifest: Manifest) -> str:
    """The quantized model in a line: its size."""
    return f"{manifest.results['bytes'] / 1e6:.1f} MB"


def show_details(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """Say how to serve each elsewhere."""
    show_serving(manifests, folders)
