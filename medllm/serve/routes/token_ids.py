"""Prompts of token ids, which must be those of the model."""

from collections.abc import Sequence

from medllm.engines.base import Decodes, Engine, GenerateRequest, Sampling
from medllm.errors import DataError
from medllm.models.chat.prompts import check_room


def ask_ids(engine: Engine, ids: Sequence[int], sampling: Sampling) -> tuple[GenerateRequest, str]:
    """A prompt of token ids, and its text.

    Raises:
        UnfitPrompt: it is empty, or leaves no room for an answer.
        DataError: the engine has no token ids, or the model not these.
    """
    template = check_known(engine, ids)
    check_room(ids, engine.context_length)
    return GenerateRequest(tuple(ids), sampling), template.decode(ids)


def check_known(engine: Engine, ids: Sequence[int]) -> Decodes:
    """The engine, if these are token ids of its model; raises DataError else."""
    if not isinstance(engine, Decodes):
        message = f"the engine {engine.name} knows no token ids of its model"
        raise DataError(message, "send text")
    if ids and max(ids) >= engine.vocabulary:
        message = f"{max(ids)} is no token id: this model has {engine.vocabulary:,} tokens"
        raise DataError(message, "see that its own tokenizer made them")
    return engine
