"""Mixes: named shares of datasets."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from medllm.config.base import LARGEST, Strict
from medllm.config.loader import read_named

SHIPPED = Path(__file__).parent / "mixes"


class Mix(Strict):
    """Named shares of datasets."""

    SHOWN: ClassVar[str] = "docs/calibration.md"
    description: str = ""
    """What it is for."""
    shares: dict[str, Annotated[float, Field(gt=0, le=LARGEST)]] = Field(min_length=1)
    """Share of each dataset; they need not sum to 100."""
    pack: tuple[str, ...] = ()
    """Datasets whose rows are short: several are joined to one sample, which counts as one."""

    @model_validator(mode="after")
    def _check_packed(self) -> Self:
        if strange := sorted({*self.pack} - {*self.shares}):
            raise ValueError(f"`pack` names {strange[0]}, which has no share")
        return self

    def __str__(self) -> str:
        """The datasets and their shares, where a mix without a name is shown."""
        return ", ".join(f"{name} {share:g}" for name, share in self.shares.items())


def find_mix(name: str, folder: Path | None = None) -> Mix:
    """The mix of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    return read_named(Mix, "mix", name, SHIPPED, folder)
