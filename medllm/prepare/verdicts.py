"""All shards together: what is the same, what overlaps, what is over a cap.

Works on columns of numbers; no text is held. Held-out rows are never touched, except where an id
comes twice, its group is tested on, or a cap is set.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medllm.data.dedup import OverlapIndex
from medllm.data.sample import largest_remainder
from medllm.data.split import SPLITS, UNDATED, split_by_time
from medllm.errors import DataError
from medllm.prepare.shard import COLUMNS, Plan

Columns = dict[str, NDArray[Any]]
Rows = NDArray[np.bool_]
"""Which rows."""
REASONS = (
    "",
    "duplicate id",
    "its group is held out",
    "its group is in the test set",
    "held out elsewhere",
    "duplicate",
    "overlaps held-out data",
    "over the task's share",
    "over max_examples",
)
"""Why a row is left out at the end, by number; 0: it stays."""


@dataclass
class Verdicts:
    """The columns of all rows, and what becomes of each."""

    columns: Columns
    starts: NDArray[np.int64]
    """Where each shard begins."""
    reason: NDArray[np.uint8]
    overlaps: list[tuple[int, int, float]] = field(default_factory=list)
    """(row, held-out row, how much of that one's text it holds)."""

    def in_split(self, split: str) -> Rows:
        """The rows that stay in a split."""
        stays: Rows = (self.columns["split"] == SPLITS.index(split)) & (self.reason == 0)
        return stays

    def leave_out(self, rows: Rows, reason: str) -> None:
        """Give those of the rows that still stay a reason not to."""
        self.reason[rows & (self.reason == 0)] = REASONS.index(reason)

    @property
    def undated(self) -> int:
        """How many rows to train on have no time."""
        return int((self.in_split("train") & (self.columns["time"] == UNDATED)).sum())

    def shard(self, number: int) -> slice:
        """The rows of a shard."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


def judge(plan: Plan, count: int) -> Verdicts:
    """What becomes of each row of some shards.

    Raises:
        DataError: the split is by time, and no row has one; or a task has a share and no row.
    """
    verdicts = _load(plan, count)
    columns = verdicts.columns
    _settle_time(plan, columns)
    verdicts.leave_out(~_is_first(columns["id"]), "duplicate id")
    _settle_tests(verdicts)
    train, held_out = verdicts.in_split("train"), columns["split"] > 0
    held_out &= verdicts.reason == 0
    for column, reason in (("group", "its group is held out"), ("digest", "held out elsewhere")):
        known = np.unique(columns[column][held_out])
        verdicts.leave_out(train & np.isin(columns[column], known), reason)
    kept = np.flatnonzero(verdicts.in_split("train"))
    again = np.zeros(len(columns["id"]), bool)
    again[kept[~_is_first(columns["digest"][kept])]] = True
    verdicts.leave_out(again, "duplicate")
    _find_overlaps(plan, verdicts, np.flatnonzero(held_out))
    _apply_shares(plan, verdicts)
    _apply_caps(plan, verdicts)
    return verdicts


def _load(plan: Plan, count: int) -> Verdicts:
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    for number in range(count):
        with np.load(plan.path(number, "npz")) as shard:
            for name, arrays in parts.items():
                arrays.append(shard[name])
    starts = np.cumsum([0, *map(len, parts["id"])])
    columns = {
        name: np.concatenate([np.empty(0, COLUMNS[name]), *parts.pop(name)]) for name in COLUMNS
    }
    return Verdicts(columns, starts, np.zeros(len(columns["id"]), np.uint8))


def _settle_time(plan: Plan, columns: Columns) -> None:
    """Place the rows that only time can place."""
    waiting = columns["split"] == len(SPLITS)
    if not waiting.any():
        return
    times = columns["time"][waiting]
    if (times == UNDATED).all():
        raise DataError(
            "the split is by time, and no row has a time that can be read",
            "name the column: `split: {by: time, time: COLUMN}`; times are in ISO 8601",
        )
    columns["split"][waiting] = split_by_time(columns["group"][waiting], times, plan.config.split)


def _settle_tests(verdicts: Verdicts) -> None:
    """A group of the test set is nowhere else, whatever another source's official split says."""
    tested = np.unique(verdicts.columns["group"][verdicts.in_split("test")])
    also = verdicts.in_split("validation") & np.isin(verdicts.columns["group"], tested)
    verdicts.leave_out(also, "its group is in the test set")


def _is_first(values: NDArray[Any]) -> Rows:
    """Whether each value stands there for the first time."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _find_overlaps(plan: Plan, verdicts: Verdicts, held_out: NDArray[np.int64]) -> None:
    """Leave out the training rows that hold much of a held-out row's text.

    The same words about another image are another example.
    """
    counts, shown = verdicts.columns["prints"], verdicts.columns["shown"]
    prints = [_prints_of(plan, verdicts, n, held_out) for n in range(len(verdicts.starts) - 1)]
    index = OverlapIndex(np.concatenate([np.empty(0, np.uint64), *prints]), counts[held_out])
    del prints
    train = np.flatnonzero(verdicts.in_split("train"))
    for number in range(len(verdicts.starts) - 1):
        shard = verdicts.shard(number)
        rows = train[np.searchsorted(train, shard.start) : np.searchsorted(train, shard.stop)]
        found = index.overlaps(
            _prints_of(plan, verdicts, number, rows), counts[rows], plan.config.max_overlap
        )
        pairs = ((int(rows[r]), int(held_out[h]), share) for r, h, share in found)
        verdicts.overlaps += [
            pair for pair in pairs if len({*shown[[*pair[:2]]].tolist()} - {0}) < 2
        ]
    copied = np.zeros(len(verdicts.reason), bool)
    copied[[row for row, _, _ in verdicts.overlaps]] = True
    verdicts.leave_out(copied, "overlaps held-out data")


def _prints_of(
    plan: Plan, verdicts: Verdicts, number: int, rows: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The fingerprints of those of some rows that are in a shard."""
    shard = verdicts.shard(number)
    wanted = np.zeros(shard.stop - shard.start, bool)
    wanted[rows[(rows >= shard.start) & (rows < shard.stop)] - shard.start] = True
    with np.load(plan.path(number, "npz")) as arrays:
        prints: NDArray[np.uint64] = arrays["fingerprints"][
            np.repeat(wanted, verdicts.columns["prints"][shard])
        ]
    return prints


def _apply_shares(plan: Plan, verdicts: Verdicts) -> None:
    """Bring the tasks of the training file to their shares, as many rows as these allow."""
    tasks, columns = plan.config.tasks, verdicts.columns
    for name, task in tasks.items():
        if task.max_examples:
            of_task = verdicts.in_split("train") & _is_task(plan, columns, name)
            _cap(verdicts, of_task, task.max_examples, "over max_examples")
    shares = {name: task.share for name, task in tasks.items() if task.share}
    if not shares:
        return
    rows = {name: verdicts.in_split("train") & _is_task(plan, columns, name) for name in shares}
    if none := [name for name in shares if not rows[name].any()]:
        raise DataError(
            f"no row to train on is of the task {none[0]}, which has a share",
            "add such rows, or leave the task out of `tasks`",
        )
    whole = sum(shares.values())
    total = min(int(rows[name].sum()) * whole / share for name, share in shares.items())
    for name, quota in largest_remainder(shares, int(total)).items():
        _cap(verdicts, rows[name], quota, "over the task's share")


def _is_task(plan: Plan, columns: Columns, name: str) -> Rows:
    is_task: Rows = columns["task"] == plan.task_names.index(name)
    return is_task


def _apply_caps(plan: Plan, verdicts: Verdicts) -> None:
    if plan.config.max_examples:
        for which in range(len(plan.datasets)):
            for split in SPLITS:
                rows = verdicts.in_split(split) & (verdicts.columns["dataset"] == which)
                _cap(verdicts, rows, plan.config.max_examples, "over max_examples")


def _cap(verdicts: Verdicts, rows: Rows, most: int, reason: str) -> None:
    """Keep the rows that rank lowest: the same draw whatever the order of rows."""
    among = np.flatnonzero(rows)
    over = np.zeros(len(rows), bool)
    over[among[np.argsort(verdicts.columns["order"][among], kind="stable")[most:]]] = True
    verdicts.leave_out(over, reason)
