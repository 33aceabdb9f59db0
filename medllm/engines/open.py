"""A REF → the engine that runs it."""

from typing import Literal

from medllm.engines.base import Engine
from medllm.errors import ConfigError
from medllm.models.load import ModelRef, load_causal_lm, load_tokenizer, resolve_model

EngineName = Literal["auto", "transformers", "llama_cpp"]


def open_engine(ref: str, engine: EngineName = "auto", n_ctx: int | None = None) -> Engine:
    """The loaded model of a REF, on the engine that fits it.

    Raises:
        ConfigError: the engine cannot run this kind of model.
        ArtifactError: the model is missing, altered or cannot be loaded.
    """
    return open_model(resolve_model(ref), engine, n_ctx)


def open_model(model: ModelRef, engine: EngineName = "auto", n_ctx: int | None = None) -> Engine:
    """Like `open_engine`, for a model that was resolved already."""
    fitting = "llama_cpp" if model.is_gguf else "transformers"
    if engine not in {"auto", fitting}:
        raise ConfigError(
            f"the engine {engine} cannot run {model.location}", f"use --engine {fitting}, or auto"
        )
    if model.is_gguf:
        from medllm.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(model.path, n_ctx=n_ctx)
    return _open_transformers(model, n_ctx)


def _open_transformers(model: ModelRef, n_ctx: int | None) -> Engine:
    from medllm.engines.transformers import TransformersEngine

    tokenizer = load_tokenizer(model.location)
    if not model.is_adapter:
        return TransformersEngine(load_causal_lm(model.location), tokenizer, n_ctx)
    from medllm.models.adapter import load_adapter

    return TransformersEngine(load_adapter(model), tokenizer, n_ctx)
