"""Examples → texts whose length in tokens fits: filtered, cut, split, or packed into windows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from medllm.data.example import Example, Rejected

OverLength = Literal["drop", "truncate", "split"]
BATCH = 256
"""Texts tokenized at once: enough for all cores, little enough to stop soon after the quota."""
SEPARATOR = "\n\n"


class Tokens(Protocol):
    """What fitting needs of a tokenizer."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text."""

    def ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One text, and the ids of the examples in it."""

    id: str
    dataset: str
    text: str
    tokens: int
    parts: tuple[str, ...] = ()
    whole: tuple[Example, ...] = field(default=(), compare=False)
    """The examples, where the text holds all of each: it can be rendered again from them."""


@dataclass(frozen=True)
class Fit:
    """Bounds in tokens, and what becomes of a text beyond them."""

    render: Callable[[Example], str]
    tokens: Tokens
    min_tokens: int
    max_tokens: int
    over_length: OverLength = "drop"
    window_tokens: int = 2048
    bare: Callable[[str], str] = str
    """What is left of a rendered text that stands alone: all, or all but its BOS."""

    def fit(self, examples: Sequence[Example]) -> Iterator[Sample | Rejected]:
        """Each example as a sample, or as several, or the reason why it is none."""
        for sample in self._measure(examples, self.bare):
            if sample.tokens < self.min_tokens:
                yield Rejected(sample.id, f"shorter than {self.min_tokens} tokens")
            elif sample.tokens <= self.max_tokens:
                yield sample
            elif self.over_length == "drop":
                yield Rejected(sample.id, f"longer than {self.max_tokens} tokens")
            else:
                yield from self._cut(sample)

    def pack(self, examples: Sequence[Example]) -> Iterator[Sample | Rejected]:
        """Windows of several whole examples each, and why the others are in none."""
        window: list[Sample] = []
        limit = min(self.window_tokens, self.max_tokens)
        between = self.tokens.count([SEPARATOR])[0]
        for sample in self._measure(examples, str):  # what begins within a window keeps its BOS
            if sample.tokens > limit:
                yield Rejected(sample.id, f"longer than a window of {limit} tokens")
                continue
            if window and sum(one.tokens + between for one in window) + sample.tokens > limit:
                yield self._join(window)
                window = []
            window.append(sample)
        if sum(one.tokens for one in window) >= self.min_tokens:
            yield self._join(window)
        else:
            reason = f"in a last window shorter than {self.min_tokens} tokens"
            yield from (Rejected(one.id, reason) for one in window)

    def _measure(self, examples: Sequence[Example], bare: Callable[[str], str]) -> Iterator[Sample]:
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            texts = [bare(self.render(example)) for example in batch]
            for example, text, tokens in zip(batch, texts, self.tokens.count(texts), strict=True):
                yield Sample(example.id, example.dataset, text, tokens, (example.id,), (example,))

    def _cut(self, sample: Sample) -> Iterator[Sample | Rejected]:
        """The text's pieces of at most `max_tokens`; only the first where it is truncated."""
        ends = self.tokens.ends(sample.text)
        starts = range(0, len(ends), self.max_tokens)
        for number, start in enumerate(starts, 1):
            piece = ends[start : start + self.max_tokens]
            if len(piece) < self.min_tokens:
                reason = f"a last piece shorter than {self.min_tokens} tokens"
                yield Rejected(f"{sample.id}#{number}", reason)
                return
            text = sample.text[ends[start - 1] if start else 0 : piece[-1]]
            name = sample.id if self.over_length == "truncate" else f"{sample.id}#{number}"
            yield Sample(name, sample.dataset, text, len(piece), sample.parts)
            if self.over_length == "truncate":
                return

    def _join(self, window: Sequence[Sample]) -> Sample:
        text = self.bare(SEPARATOR.join(sample.text for sample in window))
        parts = tuple(part for sample in window for part in sample.parts)
        whole = tuple(example for sample in window for example in sample.whole)
        name = f"{parts[0]}+{len(parts) - 1}" if len(parts) > 1 else parts[0]
        return Sample(name, window[0].dataset, text, self.tokens.count([text])[0], parts, whole)
