"""One split for all verbs: a group's place depends on its id alone, never on who asks or when."""

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from medllm.config.base import Seed, Strict
from medllm.data.example import Example
from medllm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OFFICIAL: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""What sources call their splits."""
MUCH = 0.5
"""A text that holds at least this share of a held-out text (as `dedup.OverlapIndex` tells it) gives
it away: it leaves the training file, and a calibration set's report names it."""
UNDATED = -(2**63)
"""The time of a row that has none."""


class SplitConfig(Strict):
    """How much is held out; a shared key, so that calibration, training and evaluation agree."""

    by: Literal["ratio", "official", "time"] | None = None
    """`ratio`: shares of groups; `official`: the source's own splits, and only rows that have one;
    `time`: the newest groups are held out. Default: official where a row has it, else ratio.
    Official test ids always win."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of groups kept for validation, and for the calibration's holdout."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of groups kept for testing, where a dataset has no official test set."""
    time: str | None = None
    """The column that `by: time` reads; default the first of charttime, storetime, date, year."""
    seed: Seed = 0
    """Seed of the hash; apart from the run's `seed`, so that another draw never moves a group."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        if self.time and self.by != "time":
            raise ValueError(f"time: {self.time} is read with `by: time` alone; add that, too")
        return self


def rank(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the text and the seed alone."""
    digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def official_split(example: Example) -> Split | None:
    """The split that the source put a row into, if it says so."""
    return OFFICIAL.get(str(example.metadata.get("split", "")).lower())


def split_of(
    example: Example,
    config: SplitConfig,
    test_ids: Collection[str] = (),
    test_keys: Collection[str] = (),
    *,
    carve_validation: bool = False,
) -> Split:
    """Where an example belongs; a dataset's official test ids, if any, are its whole test set.

    `test_keys` are the official test groups of others, by `Example.group_key`. What is held out for
    validation does not hang on a dataset's having a test set, so that all agree on it. With
    `carve_validation` a share of the official training rows is for validation.

    Raises:
        ConfigError: the split is by time, which no single row can tell.
    """
    alone = example.images and not example.group_kind  # many questions may be about one image
    key = f"{example.dataset}/{example.images[0]}" if alone else example.group_key
    place = rank(key, config.seed)
    is_held_out = config.test <= place < config.test + config.validation
    if example.group in test_ids or example.group_key in test_keys:
        return "test"
    if test_ids:
        return "validation" if is_held_out else "train"
    if config.by == "time":
        raise ConfigError(
            "only `medllm prepare` can split by time, because it sees all rows",
            "use what it wrote, or another dataset, or `split: {by: ratio}`",
        )
    if config.by != "ratio" and (official := official_split(example)):
        is_carved = official == "train" and carve_validation and is_held_out
        return "validation" if is_carved else official
    if place < config.test:
        return "test"
    return "validation" if is_held_out else "train"


def split_by_time(
    groups: "NDArray[np.uint64]", times: "NDArray[np.int64]", config: SplitConfig
) -> "NDArray[np.uint8]":
    """The split of each row, as its number in SPLITS; the groups with the newest rows are held out.

    A group's place is that of its latest row, so that nothing to train on is newer than what is
    held out. Groups without a time are trained on.
    """
    import numpy as np

    names, member = np.unique(groups, return_inverse=True)
    latest = np.full(len(names), UNDATED)
    np.maximum.at(latest, member, times)
    newest_first = np.lexsort((names, latest))[::-1]
    dated = int((latest > UNDATED).sum())
    test = round(config.test * dated)
    split = np.zeros(len(names), np.uint8)
    split[newest_first[:test]] = SPLITS.index("test")
    held_out = newest_first[test : test + round(config.validation * dated)]
    split[held_out] = SPLITS.index("validation")
    return split[member]
