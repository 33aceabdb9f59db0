"""Mixes: named shares of datasets."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from medllm.config.base import LARGEST, Strict
from medllm.config.loader import read_named

SHIPPED = Path(__file__).parent / "mixes"


class Mix(Strict):
    """Named shares of datasets."""

    description: str = ""
    """What it is for."""
    shares: dict[str, Annotated[float, Field(gt=0, le=LARGEST)]] = Field(min_length=1)
    """Share of each dataset; they need not sum to 100."""
    pack: tuple[str, ...] = ()
    """Datasets whose rows are short: several are joined to one sample, which counts as one."""


def find_mix(name: str, folder: Path | None = None) -> Mix:
    """The mix of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    return read_named(Mix, "mix", name, SHIPPED, folder)
