"""The table `doses`: the largest doses of adults, and which of them count for a patient."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any

from medllm.clinical.doses.amounts import read_amount
from medllm.clinical.patient import Patient
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table, unknown_names
from medllm.clinical.text.folding import fold

COLUMNS = ("single", "daily", "weekly")
_MEASURES = (*COLUMNS, "least")
GROUPS = ("insulin", "opioids")
"""What `drug` may name beside an ingredient: `opioids` are counted together."""
_NUMBERS = ("age_from", "egfr_from", "egfr_below", "weight_below", "weight_above", "every_days",
            "mme")  # fmt: skip
_LISTS = ("routes", "products", "only_for", "conditions", "with")
_NARROWING = frozenset(
    ("age_from", "egfr_from", "egfr_below", "weight_below", "conditions", "with")
)
_CHOICES = {
    "release": ("immediate", "extended"),
    "limit": ("caution", "ceiling"),
    "margin": ("wide",),
}


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    drugs = (row["drug"], *row.get("with", ()))
    yield from unknown_names("drug", drugs, {*GROUPS, *tables["drugs"]})
    for column in _MEASURES:
        if column in row and _measure(str(row[column])) is None:
            yield f"{column} must be a dose such as '500 mg' or '15 mg/kg, at most 1500 mg'"
    for column in _NUMBERS:
        if not isinstance(row.get(column, 0), (int, float)):
            yield f"{column} must be a number"
    if not row.keys() & {*COLUMNS, "every_days", "mme", "never"}:
        yield "no dose: give single, daily, weekly, every_days, mme or never"


DOSES = Table(
    name="doses",
    columns=frozenset(
        {"drug", "when", "least", "never", "fatal", *COLUMNS, *_NUMBERS, *_LISTS, *_CHOICES}
    ),
    needed=frozenset({"drug", "when"}),
    lists=frozenset(_LISTS),
    choices=_CHOICES,
    faults=_faults,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A dose of the table in the unit that doses are compared in.

    `cap` is what a dose per kg may not exceed, whatever the weight.
    """

    value: Decimal
    unit: str
    cap: Decimal | None = None

    def __str__(self) -> str:
        if self.cap is not None:
            whole = Measure(self.cap, self.unit.removesuffix("/kg"))
            return f"{replace(self, cap=None)}, at most {whole}"
        unit = "units" if self.unit == "U" else self.unit
        if unit.startswith("mg") and 0 < self.value < Decimal("0.5"):
            return f"{(self.value * 1000).normalize():f} mc{unit.removeprefix('m')}"
        return f"{self.value.normalize():f} {unit.replace('U/', 'units/')}"

    def for_weight(self, kg: Decimal) -> Decimal:
        """The dose in all, of a dose per kg."""
        return self.value * kg if self.cap is None else min(self.value * kg, self.cap)


@dataclass(frozen=True, slots=True)
class Limit:
    """A row of the table, read."""

    row: Row
    routes: frozenset[str]
    narrows: bool
    """Whether it is for some patients alone, who may have less than others."""
    single: Measure | None = None
    daily: Measure | None = None
    weekly: Measure | None = None
    least: Measure | None = None

    def of(self, column: str) -> Measure | None:
        """The largest dose of this column."""
        found: Measure | None = getattr(self, column)
        return found


Limits = Mapping[str, tuple[Limit, ...]]


def build_limits(knowledge: Knowledge) -> Limits:
    """The rows by drug; ask `knowledge.built` for it."""
    limits: dict[str, tuple[Limit, ...]] = {}
    for row in knowledge.rows("doses"):
        read = {name: _measure(str(row[name])) for name in _MEASURES if name in row}
        routes, narrows = frozenset(row.get("routes", ())), not _NARROWING.isdisjoint(row)
        limits[row["drug"]] = (*limits.get(row["drug"], ()), Limit(row, routes, narrows, **read))
    return limits


@cache
def _measure(written: str) -> Measure | None:
    each, _, most = fold(written).text.partition(", at most ")
    amount, cap = read_amount(each, 0, False, 1), _measure(most) if most else None
    if not amount or amount.per or (most and f"{cap and cap.unit}/kg" != amount.unit):
        return None
    return Measure(amount.values[0].high, amount.unit, cap.value if cap else None)


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides which rows count: the patient, drugs taken and named, words of the texts."""

    patient: Patient
    medications: frozenset[str]
    named: frozenset[str]
    text: str
    _spoken: dict[str, bool] = field(default_factory=dict, repr=False)

    def speaks_of(self, words: Iterable[str]) -> bool:
        """Whether the answer, the question or the conditions hold one of these words."""
        return any(self._speaks_of(word) for word in words)

    def _speaks_of(self, word: str) -> bool:
        if word not in self._spoken:
            self._spoken[word] = _holds(self.text, word)
        return self._spoken[word]

    def applies(self, row: Row) -> bool | None:
        """Whether a patient is one of a narrowing row; None where that is not known."""
        patient = self.patient
        measured = {
            "age_from": patient.age, "egfr_from": patient.egfr,
            "egfr_below": patient.egfr, "weight_below": patient.weight_kg,
        }  # fmt: skip
        known = [
            None if value is None else (value < row[name]) == name.endswith("below")
            for name, value in measured.items()
            if name in row
        ]
        if "with" in row or "conditions" in row:
            either = (self._is_with(row.get("with", ())), self._has(row.get("conditions", ())))
            known.append(True if True in either else None if None in either else False)
        if False in known:
            return False
        return None if None in known else True

    def _is_with(self, drugs: Sequence[str]) -> bool | None:
        """Whether one of these is taken; not known where the answer names it beside the other."""
        if not self.medications.isdisjoint(drugs):
            return True
        return False if self.named.isdisjoint(drugs) else None

    def _has(self, conditions: Sequence[str]) -> bool | None:
        own = [fold(each).text for each in self.patient.conditions]
        if any(_holds(each, word) for each in own for word in conditions):
            return True
        return None if conditions and not own else False


def _holds(text: str, word: str) -> bool:
    word = fold(word).text
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not text[at - 1 : at].isalnum() and not text[end : end + 1].isalnum():
            return True
        at = text.find(word, end)
    return False


_NEAR = 60
_RELEASE = re.compile(
    r"\b(?:xr|er|xl|sr|cr|la|mr|cd|retard|(?:extended|sustained|modified|prolonged|controlled|slow)"
    r"[ -]release|long[ -]acting)\b"
)


def is_extended(text: str, name: int, begin: int, end: int) -> bool:
    """Whether a form of extended release is named behind a drug's name, or in or before its dose.

    The places are those of the name, and of the dose, in the folded text.
    """
    return bool(
        _RELEASE.search(text, name, min(name + _NEAR, end))
        or _RELEASE.search(text, max(begin - _NEAR, name), end)
    )
