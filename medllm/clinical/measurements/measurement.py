"""One measurement, and what its number can mean in the units of a quantity."""

from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.measurements.numbers import Value
from medllm.clinical.measurements.quantities import Quantity, short
from medllm.clinical.measurements.units import ATOMS, kind_of, scale_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured, its value in the usual unit, and the place that `quote` was taken from.

    `attribute` is empty for an amount that no quantity is named for, such as "500 mg". `value` is
    None where the writing does not decide it; `readings` then holds what it can be. `upper` is the
    upper end of a range, `sign` one of `<`, `>`, `<=`, `>=` and `~`. `written_unit` is empty where
    no unit is written. `problem` says what is impossible or not decided, else it is empty.
    """

    attribute: str
    value: Decimal | None
    unit: str
    begin: int
    end: int
    quote: str
    upper: Decimal | None = None
    sign: str = ""
    written_unit: str = ""
    readings: tuple[Decimal, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The values of a number in a unit; `written` is the unit as it stands in the text."""

    attribute: str
    readings: tuple[Decimal, ...]
    upper: Decimal | None
    unit: str
    written: str
    problem: str = ""


def fitting_unit(quantity: Quantity, unit: str) -> str:
    """The written unit as one that the quantity has, or nothing: `/min` of a pulse is beats/min."""
    if unit.startswith("/"):
        unit = f"{_counted(quantity)}{unit}"
    return unit if unit and kind_of(unit) and quantity.has_unit(unit) else ""


def _counted(quantity: Quantity) -> str:
    """What is counted where a unit begins with `/`, as in `80/min` or `12,000/mm3`."""
    first = quantity.unit.partition("/")[0]
    return "cells" if ATOMS[first][0] == "count" else first


def mean(quantity: Quantity, value: Value, unit: str) -> Meaning:
    """What a number after a quantity's name means; `unit` is one of the quantity's, or empty."""
    units = [unit] if unit else bare_units(quantity, value)
    if len(units) != 1:
        choices = units or [quantity.unit, *quantity.bare]
        said = f"unit not stated: {' or '.join(dict.fromkeys(choices))}"
        return Meaning(quantity.name, value.readings, value.upper, "", "", said)
    found = tuple(quantity.to_usual(each, units[0]) for each in value.readings)
    upper = None if value.upper is None else quantity.to_usual(value.upper, units[0])
    problem = ""
    if not any(map(quantity.is_possible, found)) or not quantity.is_possible(upper or found[0]):
        low, high = quantity.possible
        problem = f"impossible: {quantity.name} is from {low} to {high} {quantity.unit}"
    return Meaning(quantity.name, found, upper, quantity.unit, unit, problem)


def bare_units(quantity: Quantity, value: Value) -> list[str]:
    """The units that a number without one can be in: those in which it is possible."""
    least, most = value.readings[0], value.readings[0] if value.upper is None else value.upper
    if quantity.bare:
        fits = [u for u, (low, high) in quantity.bare.items() if low <= least and most <= high]
        return fits or [u for u in quantity.bare if _possible(quantity, least, u)]
    units = dict.fromkeys((quantity.unit, *_siblings(quantity), *quantity.other))
    alike = [u for u in units if _possible(quantity, least, u) and _possible(quantity, most, u)]
    if quantity.unit in alike and all(quantity.to_usual(least, u) == least for u in alike):
        return [quantity.unit]  # mmol/L and mEq/L of sodium are the same number
    return alike or [quantity.unit]


_SIBLINGS = {"kg": ("lb",), "cm": ("in",), "g/dL": ("g/L",), "fraction": ("%",), "mmHg": ()}


def _siblings(quantity: Quantity) -> tuple[str, ...]:
    """Units of the same kind that are in use for the same thing."""
    return _SIBLINGS.get(quantity.unit, ())


def _possible(quantity: Quantity, value: Decimal, unit: str) -> bool:
    return quantity.is_possible(quantity.to_usual(value, unit))


_AMOUNTS = {"g": "mg", "microg": "mg", "ng": "mg", "L": "mL", "dL": "mL", "microL": "mL",
            "lb": "kg", "oz": "kg", "stone": "kg", "mU": "U", "microU": "U", "m": "cm", "mm": "cm",
            "in": "cm", "ft": "cm",
            "cells": "10^9", "10^3": "10^9", "10^6": "10^9", "10^12": "10^9"}  # fmt: skip
"""The unit that amounts of no named quantity are given in: milligrams, whatever was written."""


def amount(value: Value, unit: str) -> Meaning:
    """What a number with a unit means by itself."""
    first, _, below = unit.partition("/")
    usual = _AMOUNTS.get(first, first)
    if usual == "10^9" and below not in {"L", "microL", "mL"}:
        usual = first
    if usual == "10^9":
        below = "L"
    to = f"{usual}/{below}" if below else usual
    factor = scale_of(unit) / scale_of(to)
    found = tuple(each if factor == 1 else short(each * factor) for each in value.readings)
    upper = None if value.upper is None else short(value.upper * factor)
    return Meaning("", found, upper, to, unit)
