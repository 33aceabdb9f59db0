"""What GPTQ and AWQ have alike: gptqmodel, its rows, its errors and what it saves."""

import contextlib
import csv
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_atomically
from medllm.errors import ArtifactError, ConfigError, SetupError
from medllm.models.foreign import first_line
from medllm.models.hardware import let_gptqmodel_work, pick_device
from medllm.models.load import ModelRef, read_config, save_companions, text_config_of
from medllm.models.memory import is_out_of_memory, release_gpu
from medllm.places import passing_folder
from medllm.quantize.backends.gptq_checkpoints import KeptUnusable, quantize_kept
from medllm.quantize.work import Made, Work

FEW_SAMPLES = 128
"""Below this, gptqmodel's own advice and the GPTQ paper's default say that quality suffers."""

NUMBER = re.compile(r"(?i)\s*[-+]?\d*\.?\d+(e[-+]?\d+)?\s*")
CANNOT_LOAD = (TypeError, NotImplementedError, ValueError, KeyError)
CANNOT_READ = (*CANNOT_LOAD, AttributeError, LookupError, RuntimeError)
"""What it raises where it does not find its way through an architecture."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What config.json calls the number of experts, by architecture."""
QUANTIZE_CONFIG = "quantize_config.json"
ON_ONE_GPU = {
    "auto_forward_data_parallel": False,
    "compute_device_filter": lambda devices: devices[:1],
}
"""Of several GPUs it would take all, whoever else computes there."""


def check_gptqmodel(what: str) -> None:
    """Raise SetupError where gptqmodel is not installed."""
    if find_spec("gptqmodel") is None:
        raise SetupError(f"{what} needs gptqmodel", "pip install 'medllm[gptq]'")


def quantize_layers(
    settings: Mapping[str, Any], work: Work, folder: Path, how: Mapping[str, Any]
) -> Made:
    """Write a model that transformers loads, quantized as gptqmodel's `QuantizeConfig(**settings)`.

    `how` holds what does not change the result: `batch_size`, gptqmodel's `backend`, and after how
    many seconds GPTQ keeps its layers (`keep_seconds`).

    Raises:
        ArtifactError: gptqmodel does not know the architecture.
        ConfigError: an override of some modules is for none that the model has.
    """
    _check_no_experts(work.model)
    rows = len(_rows(work))
    if rows < FEW_SAMPLES:
        advice = f"{FEW_SAMPLES} or more give better weights"
        console.notice(f"quantize: only {rows} calibration texts; {advice}")
    target = folder.resolve()
    kept = work.scratch.resolve() / folder.name
    with _gptqmodel(work.scratch) as library:
        room = {"offload_to_disk_path": str(Path.cwd() / "offloaded")}
        settings = {**settings, **ON_ONE_GPU, **room}
        try:
            loaded = _quantized(library, settings, work, kept, how)
        except KeptUnusable as problem:
            console.notice(f"quantize: GPTQ starts anew; what was kept does not fit: {problem}")
            loaded = _quantized(library, settings, work, kept, how)
        loaded.save(str(target))
    del loaded
    release_gpu()
    _forget_machine(folder)
    save_companions(work.model, folder)
    errors = _layer_errors(folder)
    results = {"bits": settings["bits"], "group_size": settings["group_size"], **_worst(errors)}
    return Made(folder, results, rows, pick_device(), errors)


def _rows(work: Work) -> list[dict[str, Any]]:
    """What gptqmodel calibrates on."""
    assert work.calibration is not None  # GPTQ and AWQ always calibrate
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in work.calibration.token_ids
    ]


def _quantized(
    library: Any, settings: Mapping[str, Any], work: Work, kept: Path, how: Mapping[str, Any]
) -> Any:
    """The model of `work`, loaded by gptqmodel and quantized; `kept` is where layers are kept."""
    rows = _rows(work)
    kernel = library.BACKEND(how.get("backend", "auto"))
    config = library.QuantizeConfig(**settings)
    with _architecture_is_known(work.model, library):
        loaded = library.GPTQModel.load(str(work.model.path.resolve()), config, backend=kernel)
        _restore_rope(loaded.model.config.get_text_config(), work.model)
        _check_modules(loaded.model, settings)
        layers = loaded.model.config.get_text_config().num_hidden_layers
        with console.progress("quantize: layers", layers) as advance:
            loaded.layer_callback = lambda layer_idx, submodule_finalized: advance(
                int(submodule_finalized)
            )
            options = {"batch_size": how["batch_size"], "backend": kernel}
            if settings.get("method") == "awq":
                loaded.quantize(rows, **options)
            else:
                quantize_kept(loaded, rows, kept, how["keep_seconds"], **options)
    return loaded


def _restore_rope(config: Any, model: ModelRef) -> None:
    """Take out what gptqmodel adds to a rope for each kind of layer, as Gemma 3 has it.

    transformers refuses to save the configuration with it, after all the work.
    """
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(model.location, trust_remote_code=False).get_text_config()
    rope = getattr(stored, "rope_parameters", None) or {}
    if any(isinstance(part, dict) for part in rope.values()):
        config.rope_parameters = rope


def _check_no_experts(model: ModelRef) -> None:
    """Raise ArtifactError for a mixture of experts (MoE).

    transformers 5 keeps the experts of a layer in one tensor and does not find those that gptqmodel
    writes one by one: it makes them up, at random.
    """
    config = text_config_of(read_config(model.path))
    if any(config.get(key) for key in EXPERTS):
        message = f"{model.location}: transformers cannot load a mixture of experts from gptqmodel"
        raise ArtifactError(message, "choose --format gguf")


@contextmanager
def _gptqmodel(scratch: Path) -> Iterator[Any]:
    """The library, silenced, with the worker pool that it needs on few processors.

    The working folder is one in `scratch` meanwhile: it writes logs where it stands.
    """
    let_gptqmodel_work()
    with console.quiet(), passing_folder(scratch) as room, contextlib.chdir(room):
        import gptqmodel

        with workers_raise():
            yield gptqmodel


@contextmanager
def workers_raise() -> Iterator[None]:
    """A worker of gptqmodel that fails, also for want of memory, lets the call fail meanwhile.

    It would end the whole process, and what it prints of the reason is silenced.
    """
    from gptqmodel.utils.threadx import _DeviceWorker as Worker

    failed: list[BaseException] = []
    end_process = Worker._abort_process

    def note(worker: Any, problem: BaseException) -> None:
        failed.append(problem)
        if worker._pending_warmups:  # then nobody is told, and who waits would do so for ever
            console.notice(f"quantize: gptqmodel cannot begin: {problem!r:.200}")
            end_process(worker, problem)

    Worker._abort_process = note
    try:
        yield
    finally:
        Worker._abort_process = end_process
    if failed:  # nobody asked for what this worker was to make
        raise failed[0]


@contextmanager
def _architecture_is_known(model: ModelRef, library: Any) -> Iterator[None]:
    """What gptqmodel raises on an architecture that it has no map of becomes an ArtifactError.

    It tries its luck with any: so a failure is the only sign.
    """
    kind = read_config(model.path).get("model_type")
    known = sorted(library.models.auto.SUPPORTED_MODELS)
    expected = CANNOT_LOAD if kind in known else CANNOT_READ
    try:
        yield
    except expected as problem:
        if is_out_of_memory(problem):
            raise
        reason = first_line(problem)
        if isinstance(problem, KeyError):  # whose text is the key alone
            reason = f"its own error, {problem!r}"
        message = f"{model.location}: gptqmodel cannot quantize it: {reason:.200}"
        fix = "choose --format gguf or --format bnb"
        if kind not in known:
            message = f"{model.location}: gptqmodel does not know the architecture '{kind}'"
            fix += f"; it knows {', '.join(known)}"
        raise ArtifactError(message, fix) from problem


def _check_modules(model: Any, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a pattern that no module matches; say which rows groups do not fit."""
    from torch.nn import Linear

    rows = {name: part.in_features for name, part in model.named_modules() if type(part) is Linear}
    for pattern in settings.get("dynamic") or ():
        found = re.compile(pattern.removeprefix("+:").removeprefix("-:"))
        if not any(found.match(name) for name in rows):
            fix = f"a pattern must match from the start of a name such as {next(iter(rows), '')}"
            raise ConfigError(f"dynamic: '{pattern}' matches no module of the model", fix)
    size = settings["group_size"]
    odd = [name for name, columns in rows.items() if size > 0 and columns % size]
    if odd and odd != ["lm_head"]:
        console.notice(
            f"quantize: group_size {size} does not divide the rows of {len(odd)} modules, such as "
            f"{odd[0]} ({rows[odd[0]]}): transformers loads that, vLLM does not"
        )


def _forget_machine(folder: Path) -> None:
    """Take the temporary folder out of the configuration: it would differ in every run."""
    for name in ("config.json", QUANTIZE_CONFIG):
        path = folder / name
        config = json.loads(path.read_text(encoding="utf-8"))
        config.get("quantization_config", config).get("meta", {}).pop("offload_to_disk_path", None)
        write_atomically(path, json.dumps(config, indent=2) + "\n")


def _layer_errors(folder: Path) -> dict[str, float]:
    """The error of each layer, from gptqmodel's log; NaN for a layer that fell back."""
    log = folder / "quant_log.csv"
    if not log.is_file():
        return {}
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    log.unlink()  # it holds times, which would make every run another artifact
    return {
        f"{row['layer']}.{row['module']}": float(row["loss"])
        if NUMBER.fullmatch(row["loss"])
        else math.nan
        for row in rows
    }


def _worst(errors: dict[str, float]) -> dict[str, Any]:
    """The mean error of the layers and the worst one."""
    known = {name: error for name, error in errors.items() if not math.isnan(error)}
    if not known:
        return {}
    worst = max(known, key=known.__getitem__)
    return {
        "mean_layer_error": statistics.fmean(known.values()),
        "worst_layer": worst,
        "worst_layer_error": known[worst],
        "layers_without_error": len(errors) - len(known),
    }
