"""How likely a model held each token of an answer to be, and of its prompt, in nats.

It is what the model expects, before penalties and temperature. Engines in this process read prompt
and answer once more for it; llama-server tells it of answers while it writes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from medllm.engines.base import (
    Answers,
    Decodes,
    Expects,
    GenerateRequest,
    Generates,
    Piece,
    TokenLogprob,
    likelihoods,
)
from medllm.engines.prompts import prompt_ids
from medllm.errors import DataError

TELLS_ITS_OWN = frozenset({"llama_server"})
"""Engines in other processes that tell those of an answer, but not those of a prompt."""


def check_logprobs(engine: Answers, *, of_prompt: bool) -> None:
    """Raises DataError where the engine does not know what is asked."""
    if isinstance(engine, Expects) and isinstance(engine, Decodes):
        return
    if engine.name not in TELLS_ITS_OWN:
        message = f"logprobs: the engine {engine.name} does not tell how likely tokens are"
        raise DataError(message, "serve the model itself, as a folder or a .gguf file")
    if of_prompt:
        message = f"echo with logprobs: the engine {engine.name} tells none of the prompt's tokens"
        raise DataError(message, "serve with --engine llama_cpp, which does")


def write_with_logprobs(engine: Generates, request: GenerateRequest) -> Iterator[Piece]:
    """The answer; where they are asked for, its last piece holds the logprobs.

    Raises:
        DataError: as `generate`; or the engine does not know them.
    """
    if request.logprobs is None:
        yield from engine.generate(request)
        return
    check_logprobs(engine, of_prompt=request.prompt_logprobs)
    assert isinstance(engine, Decodes) and isinstance(engine, Expects)
    ids = prompt_ids(engine, request, engine.context_length)
    first, written = 0 if request.prompt_logprobs else len(ids), list[int]()
    for piece in engine.generate(request):
        written += piece.ids
        if piece.finish_reason:
            told = _logprobs(engine, [*ids, *written], first, request.logprobs)
            piece = replace(piece, logprobs=tuple(told))
        yield piece


def _logprobs(
    engine: Expects, ids: Sequence[int], first: int, count: int
) -> Iterator[TokenLogprob]:
    """Those of the tokens from place `first` on, each with the `count` likeliest ones there."""
    assert isinstance(engine, Decodes)
    decode = engine.decode

    @cache
    def text(token: int) -> str:
        return decode([token])

    if first == 0:
        yield TokenLogprob(text(ids[0]), None)  # nothing is before it
    place = 1
    for block in engine.log_probs(ids[:-1]):
        targets = ids[place : place + len(block)]
        chosen = likelihoods(block, targets)
        for row in range(max(first - place, 0), len(targets)):
            expected = np.asarray(block[row])
            likeliest = np.argsort(-expected, kind="stable")[:count] if count else ()
            top = tuple((text(int(token)), float(expected[token])) for token in likeliest)
            yield TokenLogprob(text(targets[row]), float(chosen[row]), top)
        place += len(block)
