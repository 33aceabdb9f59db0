"""Which engine serves a model, and why; and the engine itself."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod

from medllm.artifacts.serving import ServerSettings, ServingEngine
from medllm.engines.base import Engine
from medllm.engines.llama_cpp_setup import LlamaServerMissing, find_llama_server
from medllm.engines.open import lost_window, open_for_chats, open_model
from medllm.engines.servers.llama_server import LlamaServerEngine
from medllm.errors import ConfigError
from medllm.models.gpu import read_facts, uses_cuda
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef
from medllm.serve.model import vllm

OF_GGUF, OF_FOLDERS = ("llama_server", "llama_cpp"), ("vllm", "transformers")
"""The engines for each kind of model, the better one first."""
HEEDED = {
    "llama_server": {"parallel", "n_threads", "n_gpu_layers"},
    "vllm": {"parallel", *vllm.OPTIONS},
}
"""The settings that an engine heeds; those in this process have none."""


def count_gpus() -> int:
    """How many GPUs compute here; raises SetupError where one is there and cannot be used."""
    return len(read_facts().cards) if uses_cuda() else 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine, and why it is this one."""

    name: str
    why: str


def choose_engine(
    model: ModelRef,
    wanted: ServingEngine,
    settings: ServerSettings,
    gpus: Callable[[], int] = count_gpus,
) -> Chosen:
    """The engine for a model on this machine, whose GPUs `gpus` counts where that matters.

    Raises:
        ConfigError: the engine that is named cannot run the model, or none heeds a setting.
        SetupError: what is named is not there.
    """
    fitting = OF_GGUF if model.is_gguf else OF_FOLDERS
    if wanted not in {"auto", *fitting}:
        fix = f"use --engine {' or '.join(fitting)}, or auto"
        raise ConfigError(f"the engine {wanted} cannot run {model.location}", fix)
    chosen = _for_gguf(wanted) if model.is_gguf else _for_folder(model, wanted, gpus)
    check_settings(chosen, settings, fitting)
    if chosen.name == "vllm":
        _check_gpus(settings, gpus())
    return chosen


def open_for_serving(
    model: ModelRef, engine: str, n_ctx: int | None, dtype: Dtype, settings: ServerSettings
) -> Engine:
    """The loaded model on the engine that was chosen.

    Raises:
        ConfigError: the model was made for fewer tokens than `n_ctx`.
        ArtifactError: the model is altered or cannot be loaded.
        SetupError: the server does not start.
    """
    if engine == "llama_server":
        window = lost_window(model)
        return LlamaServerEngine(model.path, n_ctx=n_ctx, window=window, settings=settings)
    if engine == "vllm":
        command = vllm.require_vllm()
        return vllm.VllmEngine(model, command, n_ctx=n_ctx, dtype=dtype, settings=settings)
    if engine == "transformers":
        return open_for_chats(model, n_ctx, dtype)
    return open_model(model, "auto", n_ctx, dtype)


def _for_gguf(wanted: ServingEngine) -> Chosen:
    if wanted == "llama_cpp":
        return Chosen("llama_cpp", "as asked")
    try:
        find_llama_server()
    except LlamaServerMissing as missing:
        if wanted == "llama_server":
            raise
        why = f"{missing.message}, so answers are written one at a time; {missing.fix}"
        return Chosen("llama_cpp", why)
    return Chosen("llama_server", "as asked" if wanted == "llama_server" else "for a .gguf file")


def _for_folder(model: ModelRef, wanted: ServingEngine, gpus: Callable[[], int]) -> Chosen:
    if wanted == "transformers":
        return Chosen("transformers", "as asked")
    unfit = vllm.why_not(model)
    if wanted == "vllm":
        vllm.require_vllm()
        if unfit:
            message = f"the engine vllm cannot run {model.location}: {unfit}"
            raise ConfigError(message, "use --engine transformers, or auto")
        return Chosen("vllm", f"as asked; {vllm.UNTESTED}")
    if unfit or not vllm.find_vllm():
        return Chosen("transformers", f"not vLLM: {unfit or 'it is not installed'}")
    if not gpus():
        return Chosen("transformers", "not vLLM: it needs a GPU, and none is used here")
    return Chosen("vllm", f"vLLM and a GPU are here; {vllm.UNTESTED}")


def check_settings(chosen: Chosen, settings: ServerSettings, fitting: Sequence[str] = ()) -> None:
    """Raise ConfigError where the engine would not heed a setting, and name those that would."""
    named = {name for name, value in asdict(settings).items() if value is not None}
    for name in sorted(named - HEEDED.get(chosen.name, set())):
        engines = " or ".join(each for each, heeded in HEEDED.items() if name in heeded)
        message = f"serve.{name} is of the engine {engines}, and {chosen.name} is taken"
        able = " or ".join(each for each in fitting if name in HEEDED.get(each, ()))
        fix = f"leave {name} out" + (f", or use --engine {able}" if able else "")
        raise ConfigError(f"{message} ({chosen.why})", fix)


def _check_gpus(settings: ServerSettings, here: int) -> None:
    """Raise ConfigError where a model is to be split over GPUs that are not here."""
    sizes = settings.tensor_parallel_size, settings.pipeline_parallel_size
    needed = prod(size or 1 for size in sizes)
    if needed > max(here, 1) and settings.distributed_executor_backend != "ray":
        message = (
            f"tensor_parallel_size x pipeline_parallel_size takes {needed} GPUs, and "
            f"{here or 'none'} can be used here"
        )
        fix = "lower them; or join machines by Ray: serve.distributed_executor_backend: ray"
        raise ConfigError(message, fix)
