"""What a score or a formula gives back, and how points are added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

NOT_SCORED = "not scored"


@dataclass(frozen=True, slots=True)
class Score:
    """Points by parameter and what follows from their sum; `verified` as to its constants.

    With something `missing`, `total` is the least that it can be, and `band` and `response` are
    those of the worst band reached.
    """

    name: str
    points: Mapping[str, float]
    total: float
    band: str
    response: str
    missing: tuple[str, ...]
    source: str
    verified: bool = True
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`NEWS2 at least 12 (high), missing: consciousness`."""
        gaps = f", missing: {', '.join(self.missing)}" if self.missing else ""
        if not self.points:
            return f"{self.name} {NOT_SCORED}{gaps}"
        least = "at least " if self.missing else ""
        return f"{self.name} {least}{self.total:g} ({self.band}){gaps}"


@dataclass(frozen=True, slots=True)
class Grade:
    """What a total from `least` on means."""

    least: float
    band: str
    response: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A score's name, its grades from the lowest up, and where they are from."""

    name: str
    grades: Sequence[Grade]
    source: str
    verified: bool = True
    notes: tuple[str, ...] = ()

    def add_up(
        self, points: Mapping[str, float | None], *notes: str, least: Grade | None = None
    ) -> Score:
        """The score; None stands for what is not known. It is graded `least` or worse."""
        given = {name: each for name, each in points.items() if each is not None}
        missing = tuple(name for name in points if name not in given)
        worst = self.grade(sum(given.values()), least)
        response = f"at least: {worst.response}" if missing else worst.response
        if not given:
            worst, response = Grade(0, NOT_SCORED, ""), "nothing is given, so nothing can be said"
        return Score(
            self.name, given, sum(given.values()), worst.band, response, missing, self.source,
            self.verified, (*self.notes, *notes),
        )  # fmt: skip

    def grade(self, total: float, least: Grade | None = None) -> Grade:
        """What a total means, where `least` does not say more."""
        reached = [each for each in self.grades if each.least <= total]
        return max([*reached, *([least] if least else [])], key=lambda each: each.least)


@dataclass(frozen=True, slots=True)
class Computed:
    """What a formula gives: a value in its unit, and the band that it lies in, where there are."""

    name: str
    value: Decimal
    unit: str
    source: str
    band: str = ""
    verified: bool = True
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`eGFR 75.5 mL/min/1.73 m2 (G2)`."""
        band = f" ({self.band})" if self.band else ""
        return f"{self.name} {self.value} {self.unit}{band}"


def points_if(condition: bool | None, points: float = 1) -> float | None:
    """The points of a criterion that is met, 0 of one that is not; None where it is not known."""
    return None if condition is None else points * condition
