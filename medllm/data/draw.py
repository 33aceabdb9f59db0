"""Drawing samples from datasets: alike in any order of rows, each text and each group once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from medllm.data.dedup import digest_words
from medllm.data.example import Example, Rejected
from medllm.data.fit import Fit, Sample
from medllm.data.mix import Mix
from medllm.data.registry.datasets import Dataset, keep_examples
from medllm.data.sample import Ranked, largest_remainder
from medllm.data.split import Split, SplitConfig

ROWS_A_WINDOW = 12
"""Guess of how many rows of a packed dataset a sample takes, so that one reading suffices."""


class Drawing:
    """Draws from datasets for one calibration set; what one draw took, no later one takes again."""

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        fit: Fit,
        split: SplitConfig,
        seed: int,
        prefer: Callable[[Example], bool] | None = None,
    ) -> None:
        self._fit = fit
        self._split = split
        self._ranked = {
            name: Ranked(partial(self._stream, dataset), seed, prefer)
            for name, dataset in datasets.items()
        }
        self.drawn: dict[str, Sample] = {}
        """The samples that were drawn, by id."""
        self._unreadable: dict[str, Counter[str]] = {}
        self._left_out: Counter[str] = Counter()
        self._texts: set[int] = set()
        self._groups: set[str] = set()

    @property
    def rejected(self) -> dict[str, int]:
        """What was left out so far, by reason."""
        return dict(sum(self._unreadable.values(), self._left_out))

    def draw(
        self, mix: Mix, total: int, split: Split, *, rebalance: bool
    ) -> dict[str, list[Sample]]:
        """Samples of each dataset's split by quota; what a dataset lacks is missing.

        With `rebalance` the others make up for it, by their shares, as far as they can.
        """
        quotas = largest_remainder(mix.shares, total)
        streams = {
            name: self._samples(name, split, quota, is_packed=name in mix.pack)
            for name, quota in quotas.items()
        }
        taken: dict[str, list[Sample]] = {name: [] for name in mix.shares}
        while any(quotas.values()):
            for name, quota in quotas.items():
                found = list(islice(streams[name], quota))
                taken[name] += found
                self.drawn.update((sample.id, sample) for sample in found)
                if len(found) < quota:
                    del streams[name]
            missing = total - sum(map(len, taken.values()))
            shares = {name: mix.shares[name] for name in streams}
            quotas = largest_remainder(shares, missing) if rebalance and shares else {}
        return taken

    def _stream(self, dataset: Dataset) -> Iterator[tuple[Split, Example]]:
        """The examples of a dataset with their splits; counts the rows that are none."""
        unreadable = self._unreadable[dataset.name] = Counter()
        for row in keep_examples(dataset.examples(), unreadable):
            yield dataset.split_of(row, self._split), row

    def _samples(self, name: str, split: Split, quota: int, *, is_packed: bool) -> Iterator[Sample]:
        """The samples of a dataset's split in the order of rank, as long as somebody asks."""
        fit = self._pack if is_packed else self._fit.fit
        expected = quota * ROWS_A_WINDOW if is_packed else quota
        for pool in self._ranked[name].pools(split, expected):
            for sample in fit(list(self._new_groups(pool))):
                if isinstance(sample, Rejected):
                    self._left_out[sample.reason] += 1
                elif is_packed or self._is_new(sample.text):
                    yield sample

    def _pack(self, examples: Sequence[Example]) -> Iterator[Sample | Rejected]:
        """Windows of texts each of which is new: two windows differ though they share a text."""
        render, bare = self._fit.render, self._fit.bare
        return self._fit.pack([each for each in examples if self._is_new(bare(render(each)))])

    def _new_groups(self, examples: Sequence[Example]) -> Iterator[Example]:
        """The first example of each group: one note with ten questions is one text, not ten."""
        for example in examples:
            if example.group_key in self._groups:
                self._left_out["another row of its group"] += 1
            else:
                self._groups.add(example.group_key)
                yield example

    def _is_new(self, text: str) -> bool:
        digest = digest_words(text)
        if digest in self._texts:
            self._left_out["duplicate text"] += 1
            return False
        self._texts.add(digest)
        return True
