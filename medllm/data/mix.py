"""A mix (named shares of datasets) → texts for a quantizer, and texts held out to judge it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from medllm.config.base import Strict
from medllm.data.example import Example
from medllm.data.registry import Dataset, keep_examples
from medllm.data.sample import take_accepted
from medllm.data.split import Split, SplitConfig, split_of
from medllm.errors import DataError


class Mix(Strict):
    """Named shares of datasets."""

    description: str = ""
    """What it is for."""
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Share of each dataset; they need not sum to 100."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One text of a calibration set."""

    example: Example
    text: str
    tokens: int


@dataclass(frozen=True)
class LengthFilter:
    """Measures texts in tokens of the target's tokenizer, and keeps those within bounds."""

    render: Callable[[Example], str]
    count_tokens: Callable[[Sequence[str]], list[int]]
    min_tokens: int
    max_tokens: int

    def measure(self, examples: Sequence[Example]) -> list[Sample]:
        """The rendered texts with their lengths."""
        texts = [self.render(example) for example in examples]
        return [
            Sample(*item) for item in zip(examples, texts, self.count_tokens(texts), strict=True)
        ]

    def verdict(self, sample: Sample) -> str | None:
        """Why a sample is left out, or None."""
        if sample.tokens < self.min_tokens:
            return f"shorter than {self.min_tokens} tokens"
        return f"longer than {self.max_tokens} tokens" if sample.tokens > self.max_tokens else None


@dataclass
class Sampler:
    """Draws samples of a mix, alike in any order of rows, and counts what it leaves out."""

    lengths: LengthFilter
    split_config: SplitConfig
    seed: int
    rejected: dict[str, int] = field(default_factory=dict)

    def draw(
        self, datasets: Mapping[str, Dataset], quotas: Mapping[str, int], split: Split
    ) -> list[Sample]:
        """As many samples of each dataset's split as its quota says.

        Raises:
            DataError: a dataset has too few rows; names the shortfall.
        """
        samples: list[Sample] = []
        for name, quota in quotas.items():
            taken = self._draw_one(datasets[name], quota, split)
            if len(taken) < quota:
                bounds = f"{self.lengths.min_tokens} to {self.lengths.max_tokens} tokens"
                raise DataError(
                    f"{name}: {len(taken)} of {quota} samples: "
                    f"too few rows of its {split} split are {bounds} long",
                    "lower --samples or --min-tokens, or change the mix",
                )
            samples += taken
        return samples

    def _draw_one(self, dataset: Dataset, quota: int, split: Split) -> list[Sample]:
        unreadable: dict[str, int] = {}
        verdicts: dict[str, str | None] = {}
        measured: dict[str, Sample] = {}

        def stream() -> Iterator[Example]:
            unreadable.clear()
            rows = keep_examples(dataset.examples(), unreadable)
            return (
                row for row in rows if split_of(row, self.split_config, dataset.test_ids) == split
            )

        def accept(examples: list[Example]) -> list[bool]:
            for sample in self.lengths.measure([row for row in examples if row.id not in verdicts]):
                measured[sample.example.id] = sample
                verdicts[sample.example.id] = self.lengths.verdict(sample)
            return [verdicts[row.id] is None for row in examples]

        chosen = take_accepted(stream, accept, quota, self.seed)
        reasons = Counter(unreadable) + Counter(filter(None, verdicts.values()))
        self.rejected = dict(Counter(self.rejected) + reasons)
        return [measured[row.id] for row in chosen]
