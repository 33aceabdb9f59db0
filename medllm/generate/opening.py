"""The model of a section, loaded, and what decides its answers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from medllm import console
from medllm.config.writing import Writing
from medllm.data.example import Message
from medllm.data.shapes.values import clean
from medllm.engines.base import Elsewhere, Engine, Generates, GeneratesBatches, Piece, require
from medllm.engines.open import open_model
from medllm.engines.prompts import ask_messages, takes_messages
from medllm.engines.sampling import Sampling, UnfitSampling, check_sampling
from medllm.engines.servers.openai import check_place
from medllm.engines.settings import announce_unused
from medllm.errors import ConfigError
from medllm.generate.config import GenerateConfig
from medllm.measures.room import check_room
from medllm.models.address import address_in, resolve_address
from medllm.models.load import ModelRef, resolve_model
from medllm.models.nf4 import check_nf4
from medllm.places import is_address

OF_FILES = ("input", "batch_size", "abstain_below", "max_words", "over_length")
"""Settings that change nothing of a single answer on the screen."""


def resolve(config: GenerateConfig) -> ModelRef:
    """The model of a section, checked.

    Raises:
        ConfigError: none is named; it cannot be quantized, or its engine cannot choose tokens, as
            asked; what is asked would leave this machine and nobody said it may.
        ArtifactError: it is missing, altered or unfinished.
    """
    found = _at_address(config) if is_address(config.model or "") else resolve_model(config.model)
    model = replace(found, quantization=config.quantization)
    if model.quantization:
        check_nf4(model)
    _check_engine(model, config.sampling(config.seed))
    return model


def _at_address(config: GenerateConfig) -> ModelRef:
    """The model that another server has, where a prompt may go there: prompts are private."""
    ref = config.model or ""
    check_place(address_in(ref), allow_remote=config.allow_remote)
    if config.abstain_below is not None:
        message = f"abstain_below: {address_in(ref)} tells no likelihood of what it writes"
        fix = "leave abstain_below out, or name the model's own folder or .gguf file"
        raise ConfigError(message, fix)
    told = "what answers there is known by its name alone"
    console.notice(f"generate: {address_in(ref)}: {told}")
    return resolve_address(ref)


def _check_engine(model: ModelRef, sampling: Sampling) -> None:
    """Raises ConfigError where the engine of a model cannot choose tokens as asked."""
    engine = "llama_cpp" if model.is_gguf else "transformers"
    try:
        check_sampling("openai" if model.is_elsewhere else engine, sampling)
    except UnfitSampling as problem:
        raise ConfigError(problem.message, problem.fix) from problem


def open_engine(model: ModelRef, config: GenerateConfig) -> Generates:
    """The loaded model; says what its answers do not depend on, though one might think so.

    Raises:
        SetupError: it is too large, or its server does not answer.
    """
    if not model.is_elsewhere:
        check_room("generate", model, config.dtype)
    opened = open_model(model, n_ctx=config.n_ctx, dtype=config.dtype)
    engine = require(opened, Generates, "generate")
    if isinstance(engine, GeneratesBatches):
        engine.batch_size = config.batch_size or engine.batch_size
    elif (config.batch_size or 1) > 1:
        console.notice(f"generate: the engine {engine.name} writes one answer after another")
    if not takes_messages(engine):
        console.notice("generate: the model has no chat template: prompts are given as they are")
    announce_unused("generate", engine.unused_settings)
    return engine


def announce_cut(config: GenerateConfig) -> None:
    """Say that an answer on the screen did not end by itself."""
    full = "or as the context is full (n_ctx)"
    console.notice(f"the answer was cut: at {config.max_tokens:,} tokens (max_tokens), {full}")


def announce_of_files(what: str, config: GenerateConfig) -> None:
    """Say which settings are of files of prompts alone, where they are named."""
    if named := [name for name in OF_FILES if name in config.model_fields_set]:
        console.notice(f"{what}: of files of prompts alone, and not used: {', '.join(named)}")


def decided_by(engine: Engine, config: GenerateConfig) -> dict[str, Any]:
    """What decided the answers."""
    values = config.model_dump(mode="json", include={*Writing.model_fields, "seed"})
    return {
        "engine": engine.name,
        "n_ctx": engine.context_length,
        "chat_template": takes_messages(engine),
        "sampling": values,
        "batch_size": engine.batch_size if isinstance(engine, GeneratesBatches) else 1,
        "over_length": config.over_length,
        "unused_settings": dict(engine.unused_settings),
        **(engine.asked if isinstance(engine, Elsewhere) else {}),
    }


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """The conversation after what the model is told before each."""
    if system and messages[0].role != "system":
        return (Message("system", clean(system)), *messages)
    return messages


def answer(
    engine: Generates, messages: tuple[Message, ...], config: GenerateConfig
) -> Iterator[Piece]:
    """The answer to a conversation, piece by piece, as a section asks for it.

    Raises:
        DataError: it leaves no room for an answer, or the chat template refuses it.
    """
    asked = with_system(messages, config.system)
    yield from engine.generate(ask_messages(engine, asked, config.sampling(config.seed)))
