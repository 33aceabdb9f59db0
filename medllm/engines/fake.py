"""An engine without a model, for tests and dry runs: no weights, always the same answer.

Its tokens are the bytes of UTF-8; its answer repeats the last thing that was said.
"""

import time
from collections.abc import Iterator, Sequence

from medllm.data.example import Message
from medllm.engines.base import Piece, Sampling, Score, ScoreRequest

BOS = 256
END = 257
SPECIAL_TOKENS = {"<bos>": BOS, "<end>": END}
ANSWER_START = "You said: "
EXPECTED_LOGPROB = -0.1
UNEXPECTED_LOGPROB = -2.0


class FakeEngine:
    """Answers "You said: …"; `seconds_per_piece` makes it as slow as a model."""

    name = "fake"

    def __init__(
        self,
        *,
        context_length: int = 2048,
        has_chat_template: bool = True,
        seconds_per_piece: float = 0.0,
    ) -> None:
        self._context_length = context_length
        self._has_chat_template = has_chat_template
        self._seconds_per_piece = seconds_per_piece

    @property
    def context_length(self) -> int:
        """Bytes that prompt and answer may have together."""
        return self._context_length

    @property
    def has_chat_template(self) -> bool:
        """What the constructor was told."""
        return self._has_chat_template

    @property
    def eos_token(self) -> str:
        """The token that ends a turn."""
        return "<end>"

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as `role: content<end>`, one a line, then `assistant: `."""
        turns = "".join(f"{message.role}: {message.content}<end>\n" for message in messages)
        return f"<bos>{turns}" + ("assistant: " if add_generation_prompt else "")

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The bytes of a text; `<bos>` and `<end>` are one token each."""
        ids = [BOS] if add_special_tokens else []
        while text:
            plain, token = _next_special(text)
            ids.extend(plain.encode())
            if token:
                ids.append(SPECIAL_TOKENS[token])
            text = text[len(plain) + len(token) :]
        return ids

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """High for what `generate` would write, lower for the rest; a sum over tokens."""
        return [_score(request) for request in requests]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """The answer, a character at a time; temperature and seed change nothing."""
        text = _cut_at_stop(_decode(_answer(prompt)), sampling.stop)
        room = min(sampling.max_tokens, self.context_length - len(prompt))
        text, whole = _cut_at_tokens(text, room)
        for character in text:
            time.sleep(self._seconds_per_piece)
            yield Piece(character, len(character.encode()))
        yield Piece("", 0, "stop" if whole else "length")

    def close(self) -> None:
        """Nothing to free."""


def _next_special(text: str) -> tuple[str, str]:
    """The text before the first special token, and that token; "" where there is none."""
    found = [(at, token) for token in SPECIAL_TOKENS if (at := text.find(token)) >= 0]
    if not found:
        return text, ""
    at, token = min(found)
    return text[:at], token


def _answer(prompt: Sequence[int]) -> list[int]:
    """Token ids of the whole answer to a prompt, without the end."""
    return [*ANSWER_START.encode(), *_last_said(prompt)]


def _last_said(prompt: Sequence[int]) -> list[int]:
    """The bytes of the last message of a rendered chat, or of a plain prompt as a whole."""
    ids = list(prompt)
    if END not in ids:
        return [token for token in ids if token < BOS]
    end = len(ids) - 1 - ids[::-1].index(END)
    start = max((at + 1 for at in range(end) if ids[at] in (BOS, END)), default=0)
    turn = bytes(ids[start:end]).lstrip(b"\n")
    return list(turn.partition(b": ")[2] or turn)


def _decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="ignore")


def _cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found, default=len(text))]


def _cut_at_tokens(text: str, tokens: int) -> tuple[str, bool]:
    """The first characters that fit into so many tokens, and whether that is all of them."""
    data = text.encode()
    return _decode(list(data[: max(tokens, 0)])), len(data) <= tokens


def _score(request: ScoreRequest) -> Score:
    expected = [*_answer(request.context), END]
    logprob = 0.0
    for position, token in enumerate(request.continuation):
        is_expected = position < len(expected) and token == expected[position]
        logprob += EXPECTED_LOGPROB if is_expected else UNEXPECTED_LOGPROB - token % 16 / 16
    greedy = expected[: len(request.continuation)] == list(request.continuation)
    return Score(logprob, len(request.continuation), greedy)
