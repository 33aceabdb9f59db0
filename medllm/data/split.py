"""One split for all verbs: a group's place depends on its id alone, never on who asks or when."""

import hashlib
from collections.abc import Collection
from typing import Literal

from medllm.config.base import Strict
from medllm.data.example import Example

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitConfig(Strict):
    """How much is held out; a shared key, so that calibration, training and evaluation agree."""

    validation: float = 0.1
    """Share of groups kept for validation, and for the calibration's holdout."""
    test: float = 0.1
    """Share of groups kept for testing, where a dataset has no official test set."""
    seed: int = 0
    """Seed of the hash; apart from the run's `seed`, so that another draw never moves a group."""


def rank(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the text and the seed alone."""
    digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_of(example: Example, config: SplitConfig, test_ids: Collection[str] = ()) -> Split:
    """Where an example belongs; a dataset's official test ids, if any, are its whole test set."""
    place = rank(f"{example.dataset}/{example.group}", config.seed)
    if test_ids:
        if example.group in test_ids:
            return "test"
        return "validation" if place < config.validation else "train"
    if place < config.test:
        return "test"
    return "validation" if place < config.test + config.validation else "train"
