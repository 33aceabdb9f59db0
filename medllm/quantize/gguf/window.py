"""How many tokens a GGUF file computes its model with: its context, and windows that were lost."""

from pathlib import Path

from medllm import console
from medllm.engines.llama_native import read_trained_context, read_window
from medllm.errors import ArtifactError
from medllm.models.load import read_config


def find_lost_window(model_dir: Path, gguf: Path) -> int | None:
    """The window that a GGUF file of a model does without, in tokens; None where nothing is lost.

    Beyond it llama.cpp computes another model: its converter drops the window of some architectures
    (Mistral, Qwen2), and llama.cpp itself that of others (Phi-3).
    """
    window = read_model_window(model_dir)
    return window if window and read_window(gguf) != window else None


def read_model_window(model_dir: Path) -> int | None:
    """The sliding window of a model folder, in tokens; None where it reaches over the context."""
    from transformers import AutoConfig, DynamicCache

    try:
        config = AutoConfig.from_pretrained(model_dir).get_text_config(decoder=True)
        layers = DynamicCache(config=config).layers
    except (OSError, ValueError, KeyError, AttributeError) as problem:
        message = f"{model_dir}: its sliding window cannot be read: {problem!s:.160}"
        raise ArtifactError(message, "check config.json") from problem
    windows = [layer.sliding_window for layer in layers if getattr(layer, "is_sliding", False)]
    context = getattr(config, "max_position_embeddings", None)
    window = min(windows, default=None)
    return window if window and (context is None or window < context) else None


def note_context(model_dir: Path, gguf: Path) -> dict[str, int]:
    """For the results: the context to serve with, and the window that was lost, which is said.

    The context is that of the model, as its GGUF file says it; the results have none where that is
    not known.
    """
    lost = find_lost_window(model_dir, gguf)
    longest = read_trained_context(gguf)
    if lost is None:
        return {"context_tokens": longest} if longest else {}
    context = min(lost, longest or lost)
    names = ", ".join(read_config(model_dir).get("architectures") or ["this model"])
    console.notice(
        f"quantize: llama.cpp has no sliding window for {names}: beyond {lost:,} tokens it "
        f"computes another model, so {context:,} are what it is served with"
    )
    return {"context_tokens": context, "lost_window": lost}
