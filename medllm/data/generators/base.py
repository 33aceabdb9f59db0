"""What every generated dataset is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medllm.data.example import Example


@dataclass(frozen=True, slots=True)
class Generator:
    """A dataset whose rows are written on the spot, and come from no file."""

    build_example: Callable[[int, int], Example]
    """Row `number` of a `seed`, in this order. It depends on these two alone, so that neither the
    order nor the count of rows matters."""
    sources: tuple[Path, ...] = ()
    """The files that decide its rows, besides its code."""
