"""How many patients, articles or notes the rows are of, and what is said where nobody knows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medllm import console
from medllm.data.groups import likely_identifiers
from medllm.prepare.output import metas
from medllm.prepare.shard import Meta, Plan, number_of
from medllm.prepare.unused import MOST_NAMES, OTHERS, name_columns
from medllm.prepare.verdicts import Rows, Verdicts

ALONE = "each row alone"
Groups = dict[str, dict[str, dict[str, int]]]
"""For each dataset and kind of groups the rows that stay, and how many groups they are."""


@dataclass(frozen=True)
class Known:
    """What the shards together know of groups and images."""

    groups: Groups
    columns: list[Counter[str]]
    """For each dataset the columns of its rows that stand alone."""
    images: list[int]
    """For each dataset its rows with images."""


def count_groups(plan: Plan, verdicts: Verdicts) -> Known:
    """What the shards know of groups and images."""
    total, kinds = Meta.empty(len(plan.datasets)), [""]
    kind = np.zeros(len(verdicts.reason), np.int64)
    for number, meta in enumerate(metas(plan, verdicts)):
        shard = verdicts.shard(number)
        of_all = np.array([number_of(name, kinds) for name in meta.kinds])
        kind[shard] = of_all[verdicts.columns["kind"][shard]]
        total.images = [one + more for one, more in zip(total.images, meta.images, strict=True)]
        for counts, more in zip(total.columns, meta.columns, strict=True):
            counts.update(more)
    groups = {
        dataset.name: _count(verdicts, verdicts.columns["dataset"] == which, kind, kinds)
        for which, dataset in enumerate(plan.datasets)
    }
    return Known(groups, total.columns, total.images)


def _count(
    verdicts: Verdicts, of_dataset: Rows, kind: NDArray[np.int64], kinds: list[str]
) -> dict[str, dict[str, int]]:
    found = {}
    for number, name in enumerate(kinds):
        groups = verdicts.columns["group"][of_dataset & (kind == number) & (verdicts.reason == 0)]
        if len(groups):
            found[name or ALONE] = {"rows": len(groups), "groups": len(np.unique(groups))}
    return found


def announce_groups(plan: Plan, known: Known, unused: Mapping[str, dict[str, int]]) -> None:
    """Say what keeps rows together, where no column does, and where datasets cannot meet.

    Of private data any column that is not used may name the patient, in whatever language.
    """
    for dataset, columns in zip(plan.datasets, known.columns, strict=True):
        found = known.groups[dataset.name]
        likely = likely_identifiers(tuple(name_columns(columns, columns.total())))
        if not likely and dataset.spec.access == "private":
            likely = tuple(name for name in unused.get(dataset.name, ()) if name != OTHERS)
        if ALONE in found and likely and not dataset.spec.is_generated:
            named = ", ".join(likely[:MOST_NAMES])
            console.notice(
                f"prepare: {dataset.name}: {found[ALONE]['rows']} rows name no patient, article or "
                f"note in a usual column, so each is a group of its own; {named} may be one: "
                "`columns: {group: COLUMN}` in a dataset.yaml beside the data says so"
            )
        for kind, counts in found.items():
            if counts["groups"] == 1 < counts["rows"]:
                console.notice(f"prepare: {dataset.name}: all {counts['rows']} rows are of one "
                               f"{kind}, so one split has them all")  # fmt: skip
    _announce_kinds(known.groups)


def _announce_kinds(groups: Groups) -> None:
    """Datasets with groups of different kinds may hold the same patient unseen."""
    kinds = {
        name: sorted(kind for kind in found if kind != ALONE) for name, found in groups.items()
    }
    named = {name: said for name, said in kinds.items() if said}
    if len(Counter(map(tuple, named.values()))) > 1:
        each = "; ".join(f"{name} by {' and '.join(said)}" for name, said in named.items())
        console.notice(
            f"prepare: rows are kept together by different ids ({each}): whether one patient is in "
            "two of these datasets cannot be known"
        )
