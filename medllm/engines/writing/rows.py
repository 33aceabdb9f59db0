"""Answers in work: each with its own sampling, stop strings and end, in batches of like length."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medllm.engines.base import Piece
from medllm.engines.growing_text import GrowingText
from medllm.engines.sampling import Sampling
from medllm.engines.writing.choosing import Chooser
from medllm.engines.writing.stopping import StopWatch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass
class Row:
    """An answer in work."""

    place: int
    """Of its request."""
    prompt: Sequence[int]
    sampling: Sampling
    room: int
    """The most tokens of the answer."""
    written: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """What prompt and answer may have together."""
        return len(self.prompt) + self.room

    def begin(self, tokenizer: "PreTrainedTokenizerBase", ends: Collection[int]) -> None:
        """Be ready to take the first token."""
        self.written.clear()
        self._chooser = Chooser(self.sampling, len(self.prompt))
        self._text, self._ends = GrowingText(tokenizer), ends
        self._watch = StopWatch(self.sampling.stop)

    def choose(self, likeliest: int, logits: "torch.Tensor") -> int:
        """The next token: the likeliest one, or as the sampling says; logits (1, vocabulary)."""
        import torch

        if self._chooser.is_plain:
            return likeliest
        ids = torch.tensor([[*self.prompt, *self.written]], device=logits.device)
        return self._chooser.choose(ids, logits)

    def take(self, token: int, logprob: float) -> Piece:
        """What a token adds to the answer, which ends with an end token, a stop string or full."""
        if token in self._ends:
            return self._watch.take(Piece("", 0, "stop"))
        self.written.append(token)
        reason = "length" if len(self.written) == self.room else None
        return self._watch.take(Piece(self._text.add(token), 1, reason, logprob))


def plan_batches(
    rows: Sequence[Row], most_rows: int, pass_tokens: int, kept_tokens: int
) -> Iterator[list[Row]]:
    """The rows in batches of like length, the longest first.

    A batch has `most_rows` at most; its prompts take `pass_tokens` at most when they are read,
    padding included, and `kept_tokens` with their answers; one row is a batch in any case.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.place)):
        together = [*batch, row]
        read = len(together) * len(together[0].prompt)
        kept = len(together) * max(each.tokens for each in together)
        if batch and (len(together) > most_rows or read > pass_tokens or kept > kept_tokens):
            yield batch
            together = [row]
        batch = together
    if batch:
        yield batch
