"""The likelihood of text from a server's /v1/completions, by `echo` with `logprobs`.

The form is OpenAI's of before 2024, which vLLM and llama-cpp-python keep, and which
lm-evaluation-harness asks of them (`local-completions`): the prompt is given back with the
log-likelihood of each of its tokens.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from typing import Any

from medllm.data.example import Message
from medllm.engines.base import EngineDown, Score, ScoreRequest, encodable
from medllm.engines.servers.openai import GONE, UNREADABLE
from medllm.errors import DataError
from medllm.models.chat.prompts import BYTES_PER_TOKEN
from medllm.models.chat.special_tokens import SpecialTokens
from medllm.models.chat.template import join_plain

PARALLEL = 8
"""Requests at once."""
TRIED = ("The patient has a fever and a cough.", "The patient has a fever and a zebra.")
"""What a server is tried with: likelihoods differ where the texts do, and not before."""
SAME = 0.1
"""Nats by which a likelihood may differ between two requests: batches round in 16 bits."""

Post = Callable[[Mapping[str, Any]], Any]
"""A body without the model → the answer of /v1/completions, as plain data."""


class EchoEngine:
    """Scores text elsewhere. Its tokens are characters: the server's own are not known here.

    What counts as a token of the context is settled there, as it is in this process: the
    continuation has the tokens that the whole has more than the context alone.
    """

    name = "openai"
    has_chat_template = False
    eos_token = ""
    special_tokens = SpecialTokens(())
    unused_settings: Mapping[str, Any] = {}

    def __init__(self, post: Post, n_ctx: int, asked: Mapping[str, Any]) -> None:
        self._post = post
        self.context_length = n_ctx * BYTES_PER_TOKEN  # what is longer in tokens the server refuses
        self.asked = {**asked, "n_ctx": n_ctx, "likelihood": "echo"}

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as they are put where there is no chat template."""
        return join_plain(self, messages)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The characters of a text."""
        return [ord(character) for character in encodable(text)]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation after its context, in the order asked.

        Raises:
            DataError: the server refuses a text, or cuts it.
            EngineDown: it is not there, or fails.
        """
        contexts = list(dict.fromkeys(request.context for request in requests))
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                known = dict(zip(contexts, pool.map(self._count, contexts), strict=True))
                return list(pool.map(lambda each: self._score(each, known[each.context]), requests))
        except UNREADABLE as problem:
            raise EngineDown(GONE) from problem

    def close(self) -> None:
        """Nothing is held."""

    def read(self, text: str) -> "Echo":
        """What the server says of a text.

        Raises:
            ValueError, LookupError, TypeError: it does not say all that is needed; says what.
            DataError: it refuses the text.
        """
        body = {"prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        return Echo.of(self._post(body), text)

    def _count(self, context: Sequence[int]) -> int:
        """The tokens of a context, that of the beginning included; 1 where it is empty."""
        if not context:
            return 1
        body = {"prompt": _text(context), "max_tokens": 1, "temperature": 0}
        return int(self._post(body)["usage"]["prompt_tokens"])

    def _score(self, request: ScoreRequest, before: int) -> Score:
        told = self.read(_text((*request.context, *request.continuation)))
        tokens = told.count - before
        logprobs = told.logprobs[-tokens:] if tokens > 0 else []
        if not logprobs or None in logprobs:
            message = "the server cuts the prompt, or reads its end otherwise with what follows"
            raise DataError(message, "raise the context length of that server")
        known = [each for each in logprobs if each is not None]
        return Score(sum(known), tokens, all(told.likeliest[-tokens:]))


@dataclass(frozen=True, slots=True)
class Echo:
    """What a server says of the tokens of a text, without the one that it wrote after them."""

    text: str
    """The tokens' own, joined, as the server writes them."""
    count: int
    """Tokens, that of the beginning included."""
    logprobs: Sequence[float | None]
    """In nats; None where nothing precedes. llama-cpp-python leaves out that of the beginning."""
    likeliest: Sequence[bool]
    """Whether greedy decoding would write each; False where that is not known."""

    @classmethod
    def of(cls, answer: Mapping[str, Any], text: str) -> "Echo":
        """From an answer of /v1/completions to a text.

        Raises:
            ValueError, LookupError, TypeError: it does not say all that is needed; says what.
        """
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        if not choice["text"].lstrip().startswith(text.lstrip()):
            raise ValueError("it does not give the prompt back (echo)")
        told = choice.get("logprobs") or {}
        if not all(isinstance(told.get(name), list) for name in ("tokens", "token_logprobs")):
            raise ValueError("it tells no token_logprobs of the prompt")
        count = usage.get("prompt_tokens")
        if not isinstance(count, int):
            raise ValueError("it does not count the prompt's tokens (usage)")
        end = len(told["tokens"]) - usage.get("completion_tokens", 0)
        if end not in (count, count - 1):
            raise ValueError(f"it tells of {end} tokens, and counts {count}")
        logprobs = [None if one is None else float(one) for one in told["token_logprobs"][:end]]
        if any(one is not None and not (isfinite(one) and one < 1e-3) for one in logprobs):
            raise ValueError("what it tells is no logarithm of a probability")
        likeliest = _likeliest(logprobs, told.get("top_logprobs") or [])
        return cls("".join(told["tokens"][:end]), count, logprobs, likeliest)


def why_not(engine: EchoEngine) -> str | None:
    """What shows that a server does not tell the likelihood of a prompt; None where it does."""
    try:
        first, second = map(engine.read, TRIED)
    except DataError as problem:
        return problem.message
    except EngineDown:
        return "its /v1/completions does not answer as it should"
    except UNREADABLE as problem:
        return str(problem) or type(problem).__name__
    for told, text in zip((first, second), TRIED, strict=True):
        if not _squeezed(told.text).endswith(_squeezed(text)):
            return "the tokens that it tells of are not those of the prompt"
    pairs = list(zip(first.logprobs[1:], second.logprobs[1:], strict=False))
    differ = [a is None or b is None or abs(a - b) > SAME for a, b in pairs]
    if not pairs or differ[0] or not any(differ):
        return "what it tells does not depend on the prompt as it should"
    return None


def _likeliest(logprobs: Sequence[float | None], tops: Sequence[Any]) -> list[bool]:
    return [
        value is not None and bool(top) and value >= max(top.values()) - 1e-6
        for value, top in zip(logprobs, [*tops, *[None] * len(logprobs)], strict=False)
    ]


def _squeezed(text: str) -> str:
    """Without white space, which tokens show in their own ways: as ▁, as Ġ, or not at all."""
    return re.sub(r"[\s▁Ġ]", "", text)


def _text(characters: Sequence[int]) -> str:
    return "".join(map(chr, characters))
