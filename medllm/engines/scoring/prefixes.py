"""What rows to score have in common at their beginning, so that it is read once for all of them.

Worked examples are the same before all questions of a subject: a trunk. A question is the same
before its answers: a stem. Each row is a stem and the rest of one answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from os.path import commonprefix

from medllm.engines.base import ScoreRequest

LOOK = 16
"""Tokens by which rows with a common trunk find each other."""
LEAST_TRUNK, LEAST_SHARE = 1024, 0.4
"""What a trunk must save to be read apart, in tokens and as a share of its rows' tokens: reading
on from it costs a mask, and a copy of its keys and values for each row."""
LEAST_STEM = 64
"""Tokens of a question that are read apart from its answers, times the answers but one."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the model is given, and what is asked of it: continuations, and where each ends."""

    ids: tuple[int, ...]
    requests: tuple[tuple[ScoreRequest, int], ...]
    """Each with the tokens of the row up to the one that predicts its last token."""

    @property
    def stem(self) -> int:
        """How many tokens there are up to the one that predicts the first token asked for."""
        return min(end - size_of(request, end) + 1 for request, end in self.requests)

    @property
    def asked(self) -> int:
        """The positions from there on, whose logits are needed."""
        return len(self.ids) - self.stem + 1


def size_of(request: ScoreRequest, end: int) -> int:
    """The tokens of a continuation that are scored: those that a token precedes."""
    return min(len(request.continuation), end)


def rows_of(asked: Mapping[tuple[int, ...], Sequence[ScoreRequest]]) -> list[Row]:
    """The rows to read for requests by their input; an input that begins another needs none.

    So " yes" and " maybe" of two tokens are one row.
    """
    rows: list[Row] = []
    told: tuple[tuple[ScoreRequest, int], ...] = ()
    inputs = sorted(asked)
    for ids, after in zip_longest(inputs, inputs[1:], fillvalue=()):
        told += tuple((request, len(ids)) for request in asked[ids])
        if after[: len(ids)] != ids:
            rows.append(Row(ids, told))
            told = ()
    return rows


@dataclass(frozen=True, slots=True)
class Trunk:
    """Rows, and the tokens that all begin with; maybe none."""

    prefix: tuple[int, ...]
    rows: list[Row]

    def forks(self) -> tuple[list[Row], list[list[Row]]]:
        """The rows to be read whole, and those that have their stem in common, by stem."""
        by_stem: defaultdict[tuple[int, ...], list[Row]] = defaultdict(list)
        for row in self.rows:
            by_stem[row.ids[: row.stem]].append(row)
        whole: list[Row] = []
        forks: list[list[Row]] = []
        for stem, rows in by_stem.items():
            saved = (len(stem) - len(self.prefix)) * (len(rows) - 1)
            if saved >= LEAST_STEM:
                forks.append(rows)
            else:
                whole += rows
        return whole, forks


def find_trunks(rows: Iterable[Row]) -> Iterator[Trunk]:
    """The rows by what they begin with, those that have little in common together at the end."""
    groups: defaultdict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.ids[:LOOK]].append(row)
    alone: list[Row] = []
    for group in groups.values():
        prefix = _common(group)
        if _is_worth(prefix, group):
            yield Trunk(prefix, group)
        else:
            alone += group
    if alone:
        yield Trunk((), alone)


def _common(rows: Sequence[Row]) -> tuple[int, ...]:
    """What all begin with, before the first position that anybody asks for."""
    ids = [row.ids for row in rows]
    shared = tuple(commonprefix([min(ids), max(ids)]))
    return shared[: min(row.stem for row in rows) - 1]


def _is_worth(prefix: tuple[int, ...], rows: Sequence[Row]) -> bool:
    """Whether reading a prefix apart saves enough, beyond what stems save anyway."""
    stems = {row.ids[: row.stem] for row in rows}
    saved = len(prefix) * (len(stems) - 1)
    return saved >= max(LEAST_TRUNK, LEAST_SHARE * sum(map(len, stems)))
