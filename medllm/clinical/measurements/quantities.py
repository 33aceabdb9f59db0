"""What is measured in patients: its names, its units, and the values that are possible at all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import cache
from typing import Any

from medllm.clinical.measurements.units import kind_of, scale_of
from medllm.clinical.rules.knowledge import KNOWLEDGE
from medllm.clinical.rules.tables import unknown_names
from medllm.errors import ConfigError, DataError, did_you_mean

DIGITS = Context(prec=6)
"""What a converted value keeps."""

Range = tuple[Decimal, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A row of `knowledge/quantities.yaml`; the head of that file says what each column is."""

    name: str
    names: tuple[str, ...]
    unit: str
    possible: Range
    source: str
    verified: bool
    weak: tuple[str, ...] = ()
    other: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    bare: Mapping[str, Range] = field(default_factory=dict)
    pair: tuple[str, ...] = ()
    out_of: int | None = None
    whole: bool = False
    scored: bool = False
    strict: bool = False

    def is_possible(self, value: Decimal) -> bool:
        """Whether a patient can have this value, in the usual unit."""
        return self.possible[0] <= value <= self.possible[1]

    def has_unit(self, unit: str) -> bool:
        """Whether a value may be written in this unit."""
        return unit in self.other or any(
            kind_of(unit) == kind_of(u) for u in (self.unit, *self.other)
        )

    def to_usual(self, value: Decimal, unit: str) -> Decimal:
        """The value in the usual unit, exact where no conversion is needed."""
        if unit == self.unit:
            return value
        if kind_of(unit) == kind_of(self.unit):
            return short(value * scale_of(unit) / scale_of(self.unit))
        known = next(each for each in self.other if kind_of(each) == kind_of(unit))
        factor, offset = self.other[known]
        return short((value * scale_of(unit) / scale_of(known) - offset) / factor)


def short(value: Decimal) -> Decimal:
    """Six digits, without zeros at the end and without an exponent."""
    value = DIGITS.create_decimal(value).normalize()
    is_whole = abs(value) < 10**20 and value == value.to_integral_value()
    return value.quantize(Decimal(1)) if is_whole else value


@cache
def quantities() -> Mapping[str, Quantity]:
    """All of them, by name."""
    rows = json.loads(KNOWLEDGE.read_text(encoding="utf-8"))["quantities"]
    return {row["name"]: build_quantity(row) for row in rows}


def quantity(name: str) -> Quantity:
    """Raises DataError for a name that the table does not hold."""
    try:
        return quantities()[name]
    except KeyError:
        fix = f"{did_you_mean(name, quantities())}see knowledge/quantities.yaml"
        raise DataError(f"no quantity '{name}'", fix) from None


def convert(name: str, value: Decimal, unit: str) -> Decimal:
    """A value of the quantity `name` in its usual unit; raises DataError for an unknown unit."""
    known = quantity(name)
    if not known.has_unit(unit):
        fix = f"give it in {' or '.join((known.unit, *known.other))}"
        raise DataError(f"{name}: unknown unit '{unit}'", fix)
    return known.to_usual(value, unit)


def build_quantity(row: Mapping[str, Any]) -> Quantity:
    """A quantity from plain data."""
    other = {
        unit: (*_decimals(each), Decimal(0))[:2] for unit, each in row.get("other", {}).items()
    }
    bare = {unit: _decimals(each) for unit, each in row.get("bare", {}).items()}
    numbers = {"possible": _decimals(row["possible"]), "other": other, "bare": bare}
    texts = {key: tuple(row[key]) for key in ("names", "weak", "pair") if key in row}
    return Quantity(**{**row, **numbers, **texts})


def _decimals(numbers: Iterable[float]) -> tuple[Decimal, ...]:
    return tuple(Decimal(str(each)) for each in numbers)


COLUMNS = frozenset(Quantity.__dataclass_fields__)
NEEDED = {"name", "names", "unit", "possible", "source", "verified"}


def check_quantities(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Check rows, each with its place (file and line), before anything is built of them.

    Raises:
        ConfigError: a row lacks a column or has an unknown one, a name is there twice, a unit is
            unknown, or a range is upside down; all that is wrong, each with its place.
    """
    seen: set[str] = set()
    wrong = []
    for place, row in rows:
        wrong += [f"{place}: {fault}" for fault in _faults_of(row, seen)]
        seen.add(str(row.get("name")))
    if wrong:
        raise ConfigError("\n".join(wrong), "correct these rows")


def _faults_of(row: Mapping[str, Any], seen: set[str]) -> list[str]:
    missing = sorted(column for column in NEEDED if row.get(column) in (None, "", []))
    faults = [f"no {column}" for column in missing]
    faults += unknown_names("column", row, COLUMNS)
    if row.get("name") in seen:
        faults.append(f"'{row['name']}' is there twice")
    units = [row.get("unit", ""), *row.get("other", {}), *row.get("bare", {})]
    faults += [f"unknown unit '{unit}'" for unit in units if unit and not kind_of(unit)]
    ranges = [row.get("possible") or [0, 1], *row.get("bare", {}).values()]
    faults += [f"no range: {each}" for each in ranges if len(each) != 2 or each[0] > each[1]]
    return faults
