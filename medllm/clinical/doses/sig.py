"""A sig: what a prescription, or advice in prose, says of one drug or one product."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from medllm.clinical.doses.amounts import Range
from medllm.clinical.doses.vocabulary import Often


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """The most that a text allows: of a dose, or of a day; `unit` may be a form ("tablet")."""

    value: Decimal
    unit: str
    per: Literal["", "day", "week"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sig:
    """One dose regimen of a text.

    `doses` are single doses in `unit` (mg, U, mEq, mmol, mL, %, or of these per kg, m2, h …), one
    for each of `drugs`, or one for all of them together; none where the text gives a total of a
    day alone, which `daily` then holds. `per_form` is what a tablet or puff holds, where the text
    says it. `often` is the most times that the text allows. `joined` says how it stands to the sig
    of the same drug before it: `and` adds, `then` follows, `or` replaces. `begin` and `end` are
    characters of the folded text, `mention` the number of the
    mention whose sig it is.
    """

    drugs: tuple[str, ...]
    mention: int
    doses: tuple[Range, ...]
    daily: tuple[Range, ...]
    per_form: tuple[Range, ...]
    unit: str
    often: Often | None
    is_once: bool
    route: str
    as_needed: bool
    days: Decimal | None
    is_loading: bool
    is_push: bool
    limit: StatedLimit | None
    problem: str
    joined: Literal["", "and", "then", "or"]
    begin: int
    end: int

    @property
    def single(self) -> tuple[Range, ...]:
        """The single doses; a share of the day's total where that is divided into so many."""
        if self.doses or not self.often or self.often.days != 1:
            return self.doses
        return tuple(each.times(1 / self.often.times) for each in self.daily)
