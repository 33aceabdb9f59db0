"""Gates: figures held against thresholds, and the outcome, which may fail a command."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.config.base import Strict, is_there
from medllm.config.loader import read_named, read_yaml, validate
from medllm.errors import GateError
from medllm.places import shipped_dir

OUTCOME = "gate.json"
SHIPPED = shipped_dir() / "evaluate" / "gates"


class Threshold(Strict):
    """A line of a gate: a figure, and what it must be."""

    figure: str
    """Its name in the scores, as `accuracy` or `loss`."""
    task: str | None = None
    """Of which task; by default of each that has the figure."""
    of: Literal["value", "difference", "gain"] = "value"
    """The figure itself; `difference`: less that of the baseline; `gain`: less that of always
    giving the most frequent label."""
    worst: str | None = None
    """Of the worst group by this field of the rows, as `metadata.modality`."""
    bound: bool = False
    """Whether the worse end of the 95 % interval must meet it, not the figure alone."""
    min: float | None = None
    """The least."""
    max: float | None = None
    """The most."""
    where_measured: bool = False
    """Whether it holds only where the figure is known; else an unknown figure fails."""

    @model_validator(mode="after")
    def _check_is_threshold(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is above `max`: nothing can pass")
        if self.worst and self.of != "value":
            raise ValueError("`worst` is of the value itself")
        return self


class GateFile(Strict):
    """A gate, from its YAML."""

    SHOWN: ClassVar[str] = "docs/evaluate.md"
    description: str = ""
    """What it is for."""
    thresholds: tuple[Threshold, ...] = Field(min_length=1)
    """What must hold, all of it."""


def find_gate(ref: str) -> GateFile:
    """The gate of a file, or of the name of a shipped one.

    Raises:
        ConfigError: there is none, or something in it is wrong.
    """
    if is_there(path := Path(ref)) and path.is_file():
        return validate(GateFile, read_yaml(path))
    return read_named(GateFile, "gate", ref, SHIPPED, None)


@dataclass(frozen=True)
class Check:
    """A figure and what it must be; one that is unknown or a NaN passes no gate."""

    figure: str
    value: float | None
    max: float | None = None
    min: float | None = None
    low: float | None = None
    high: float | None = None
    items: int | None = None
    bound: bool = False
    """Whether the worse end of the interval is what is judged."""
    is_share: bool = False
    """Whether it is a share of the items."""

    @property
    def passed(self) -> bool:
        """Whether what is judged is within the thresholds."""
        least, most = (self.low, self.high) if self.bound else (self.value, self.value)
        if least is None or most is None:
            return False
        return (self.min is None or least >= self.min) and (self.max is None or most <= self.max)

    @property
    def undecided(self) -> str:
        """Why so many items cannot decide it: the interval holds a threshold; else empty."""
        if self.value is None or self.items is None:
            return ""
        counted = "1 item" if self.items == 1 else f"{self.items:,} items"
        if self.low is None or self.high is None:
            return f"{counted} cannot decide it: they have no interval"
        held = [
            f"{t:g}" for t in (self.min, self.max) if t is not None and self.low < t < self.high
        ]
        if not held:
            return ""
        told = f"{counted} cannot decide it: the interval holds {' and '.join(held)}"
        return f"{told}; about {needed:,} would" if (needed := self._items_needed()) else told

    def _items_needed(self) -> int | None:
        """For how many items a 95 % interval of this share (Wald's) ends at the threshold."""
        at = self.min if self.min is not None else self.max
        if not self.is_share or self.value is None or at is None or self.value == at:
            return None
        return ceil(1.96**2 * self.value * (1 - self.value) / (self.value - at) ** 2) or None

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.figure} is not measured"
        found = f"{self.figure} {self._shown(self.value)}"
        if self.low is None and self.items is None:
            return f"{found} is more than max_{self.figure} {self.max:g}"
        sure = "no interval"
        if self.low is not None and self.high is not None:
            sure = f"95 % {self._shown(self.low)} to {self._shown(self.high)}"
        told = f"{found} ({sure}, n = {self.items:,})"
        if self.passed:
            return f"{told} is {self._wanted}"
        who = "its worse end is" if self.bound else "is"
        return f"{told}: {who} not {self._wanted}"

    def _shown(self, value: float) -> str:
        """A number with so many digits that it stands on its own side of the thresholds."""
        ends = [end for end in (self.min, self.max) if end is not None and end != value]
        shown = (console.rounded(value, digits) for digits in range(4, 17))
        for each in shown:
            if all((float(each.replace(",", "")) - end) * (value - end) > 0 for end in ends):
                return each
        return f"{value}"

    @property
    def _wanted(self) -> str:
        ends = [f"at least {self.min:g}"] if self.min is not None else []
        ends += [f"at most {self.max:g}"] if self.max is not None else []
        return " and ".join(ends)


Subject = Mapping[str, str]
"""What is judged: its name under the key that says what it is, as "format", and its identity."""


def settle_gate(
    gate: Mapping[str, Any], checks: Sequence[tuple[Subject, Check]], output: Path, fix: str
) -> None:
    """Write the outcome to `gate.json` in the output; it is no part of what was made.

    Raises:
        GateError: a figure is beyond its threshold, or no number.
    """
    failed = [(subject, check) for subject, check in checks if not check.passed]
    told = [_told(subject, check) for subject, check in checks]
    write_json(output / OUTCOME, {"gate": gate, "passed": not failed, "checks": told})
    if failed:
        raise GateError("\n".join(_lines(failed)), fix)


def _told(subject: Subject, check: Check) -> dict[str, Any]:
    """A check as plain data, without what it does not have."""
    known = {key: value for key, value in asdict(check).items() if value not in (None, False)}
    more = {"undecided": check.undecided} if check.undecided else {}
    return {**subject, **known, "value": check.value, "passed": check.passed, **more}


def _lines(failed: Sequence[tuple[Subject, Check]]) -> Iterator[str]:
    yield "the gate failed"
    for subject, check in failed:
        reason = f"; {check.undecided}" if check.undecided else ""
        yield f"{next(iter(subject.values()))}: {check}{reason}"
