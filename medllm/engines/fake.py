"""An engine without a model, for tests and dry runs: no weights, always the same answer.

Its tokens are the bytes of UTF-8; its answer repeats the last thing that was said.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medllm.data.example import Message
from medllm.engines.base import BLOCK_TOKENS, GenerateRequest, LogProbs, Piece, Score, ScoreRequest
from medllm.engines.prompts import prompt_ids
from medllm.engines.writing.stopping import until_stop
from medllm.models.chat.special_tokens import SpecialTokens

BOS = 256
END = 257
SPECIAL_TOKENS = {"<bos>": BOS, "<end>": END}
EXPECTED_LOGPROB = -0.1
UNEXPECTED_LOGPROB = -2.0
VOCABULARY = 258


class FakeEngine:
    """Answers "You said: …"; `seconds_per_piece` makes it as slow as a model.

    `log_probs` gives the last token the probability `confidence` to come again.
    """

    name = "fake"
    eos_token = "<end>"
    special_tokens = SpecialTokens(SPECIAL_TOKENS)
    vocabulary = VOCABULARY

    def __init__(
        self,
        *,
        context_length: int = 2048,
        has_chat_template: bool = True,
        seconds_per_piece: float = 0.0,
        confidence: float = 0.5,
    ) -> None:
        self.context_length = context_length  # bytes that prompt and answer may have together
        self.has_chat_template = has_chat_template
        self.unused_settings: Mapping[str, Any] = {}
        self._seconds_per_piece = seconds_per_piece
        self._confidence = confidence

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as `role: content<end>`, one a line, then `assistant: `."""
        mark = self.special_tokens.mark
        turns = "".join(f"{turn.role}: {mark(turn.content)}<end>\n" for turn in messages)
        return f"<bos>{turns}" + ("assistant: " if add_generation_prompt else "")

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The bytes of a text; `<bos>` and `<end>` are one token each unless they are marked."""
        ids = [BOS] if add_special_tokens else []
        for stretch, is_text in self.special_tokens.stretches(text):
            for part in [stretch] if is_text else re.split("(<bos>|<end>)", stretch):
                is_token = part in SPECIAL_TOKENS and not is_text
                ids += [SPECIAL_TOKENS[part]] if is_token else part.encode()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        names = {token: name.encode() for name, token in SPECIAL_TOKENS.items()}
        return b"".join(names.get(each) or bytes([each]) for each in ids).decode(errors="replace")

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """High for what `generate` would write, lower for the rest; a sum over tokens."""
        return [_score(request) for request in requests]

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """The last token is likely to come again; all others are alike."""
        rest = np.log((1 - self._confidence) / (VOCABULARY - 1))
        for begin in range(0, len(ids), BLOCK_TOKENS):
            tokens = ids[begin : begin + BLOCK_TOKENS]
            block = np.full((len(tokens), VOCABULARY), rest, dtype=np.float32)
            block[range(len(tokens)), tokens] = np.log(self._confidence)
            yield block

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer, a character at a time; temperature and seed change nothing.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images.
        """
        prompt, sampling = prompt_ids(self, request, self.context_length), request.sampling
        room = min(sampling.max_tokens, self.context_length - len(prompt))
        return until_stop(self._pieces(_answer(prompt), room, request.likelihood), sampling.stop)

    def _pieces(self, answer: bytes, room: int, likelihood: bool) -> Iterator[Piece]:
        for character in answer.decode(errors="ignore"):
            tokens = len(character.encode())
            room -= tokens
            if room < 0:
                yield Piece("", 0, "length")
                return
            time.sleep(self._seconds_per_piece)
            logprob = EXPECTED_LOGPROB * tokens if likelihood else None
            yield Piece(character, tokens, None, logprob, tuple(character.encode()))
        yield Piece("", 0, "stop", ids=(END,))

    def close(self) -> None:
        """Nothing to free."""


def _answer(prompt: Sequence[int]) -> bytes:
    """The answer: the last message of a rendered chat, or a plain prompt as a whole, repeated."""
    text = "".join(map(chr, prompt))  # a character for each token, be it a byte or special
    *turns, said = text.split(chr(END))
    if turns:
        turn = turns[-1].rpartition(chr(BOS))[2].lstrip("\n")
        said = turn.partition(": ")[2] or turn
    return b"You said: " + said.replace(chr(BOS), "").encode("latin-1")


def _score(request: ScoreRequest) -> Score:
    expected = [*_answer(request.context), END]
    logprob = 0.0
    for position, token in enumerate(request.continuation):
        is_expected = position < len(expected) and token == expected[position]
        logprob += EXPECTED_LOGPROB if is_expected else UNEXPECTED_LOGPROB - token % 16 / 16
    greedy = expected[: len(request.continuation)] == list(request.continuation)
    return Score(logprob, len(request.continuation), greedy)
