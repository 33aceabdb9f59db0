"""How a model is served: settings of servers, and the lines that serve it elsewhere."""

from dataclasses import dataclass
from typing import Any, Literal

from medllm.artifacts.manifest import Manifest

MODELFILE = "Modelfile"
ServingEngine = Literal["auto", "transformers", "llama_cpp", "llama_server", "vllm"]
"""What may run a model that is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server uses a machine, under the names that servers and their users know."""

    parallel: int | None = None
    """How many answers are written at once."""
    n_threads: int | None = None
    """Threads that compute; by default one for each processor."""
    n_gpu_layers: int | None = None
    """Layers on the GPU; by default as many as llama-server finds room for."""
    tensor_parallel_size: int | None = None
    """GPUs that share each layer."""
    pipeline_parallel_size: int | None = None
    """Groups of GPUs that have some of the layers each."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """What joins several GPUs; Ray also those of other machines."""
    gpu_memory_utilization: float | None = None
    """The share of each GPU's memory that is taken."""
    tool_call_parser: str | None = None
    """What of vLLM reads calls of functions in what the model writes."""


def serving_lines(manifest: Manifest, folder: str = ".") -> list[str]:
    """Shell commands, for a model in `folder`; empty for what these servers do not load."""
    if manifest.kind != "quantized":
        return []
    if manifest.format == "gguf":
        return _lines_of_gguf(manifest, folder)
    # vLLM reads the kind of quantization in config.json; no flag names it
    return [f"vllm serve {folder}{' --dtype half' if needs_half(manifest) else ''}"]


def _lines_of_gguf(manifest: Manifest, folder: str) -> list[str]:
    names = [file.path for file in manifest.files if file.path.startswith("model-")]
    context = manifest.results.get("context_tokens", 0)  # 0: what the file says
    lines = [f"llama-server -m {folder}/{name} -c {context}" for name in names[:1]]
    if any(file.path == MODELFILE for file in manifest.files):
        lines.append(f"ollama create my-model -f {folder}/{MODELFILE}")
    return lines


def needs_half(manifest: Manifest) -> bool:
    """Whether vLLM has only a kernel of 16-bit floats for it, which refuses bfloat16.

    vLLM's gptq_marlin takes symmetric weights of 4 and 8 bits, its awq_marlin such with zero
    points; the kernels for the others (gptq, awq) take float16 alone.
    """
    choice = _choice(manifest)
    if choice.get("format") == "gptq":
        return choice["bits"] in {2, 3} or not choice["sym"]
    return choice.get("format") == "awq" and bool(choice["sym"])


def _choice(manifest: Manifest) -> dict[str, Any]:
    """The settings of the format; empty in a manifest that somebody altered."""
    return dict((manifest.settings.get("formats") or [{}])[0])
