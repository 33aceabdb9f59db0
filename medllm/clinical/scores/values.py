"""What goes into a score: numbers read exactly, and refused by name where they cannot be."""

import math
import numbers
from decimal import ROUND_HALF_UP, Context, Decimal

from medllm.clinical.measurements.quantities import quantity
from medllm.errors import DataError

Number = int | float | Decimal
_NOISE = Context(prec=12, rounding=ROUND_HALF_UP)
"""A float is read at twelve digits, so that what computing left in the last ones decides nothing:
`37.95 + 0.1` is 38.050000000000004."""


class Unscorable(DataError):
    """A score is not meant for this patient, or a value is one that no patient can have.

    The message names the value's parameter, never the value: it may end up in a log.
    """


def exact(what: str, value: Number) -> Decimal:
    """The number as it is written in decimals; raises Unscorable for what is none."""
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        number = _NOISE.create_decimal(str(value))
    else:
        raise Unscorable(f"{what}: not a number", "give a number, without its unit")
    if not number.is_finite():
        raise Unscorable(f"{what}: not a number", "give a finite number")
    return number


def possible(what: str, value: Number) -> Decimal:
    """The number, in the usual unit of the quantity `what`; raises Unscorable outside its range."""
    number, known = exact(what, value), quantity(what)
    low, high = known.possible
    if not low <= number <= high:
        message = f"{what}: impossible (possible are {low} to {high} {known.unit})"
        raise Unscorable(message, f"check the value and its unit; it is in {known.unit}")
    return number


def rounded(number: Decimal, step: str = "1") -> Decimal:
    """The number at the precision of `step` (`"0.1"`), half up: 38.05 → 38.1."""
    return number.quantize(Decimal(step), ROUND_HALF_UP)


def positive(what: str, value: Number, most: int) -> Decimal:
    """A number above 0 and up to `most`, for what is not in the table of quantities."""
    number = exact(what, value)
    if not 0 < number <= most:
        raise Unscorable(f"{what}: impossible (possible are values up to {most})", "check it")
    return number


def flag(what: str, value: bool | None) -> bool | None:
    """Yes, no or not known; a word such as "no" would count as yes, so it is refused."""
    if value is not None and not isinstance(value, bool):
        raise Unscorable(f"{what}: neither yes nor no", "give True, False, or None where not known")
    return value


def age(years: Number | None, youngest: int = 0) -> int | None:
    """Completed years; raises Unscorable below `youngest` and above 130."""
    if years is None:
        return None
    completed = math.floor(exact("age", years))
    if not 0 <= completed <= 130:
        raise Unscorable("age: impossible (possible are 0 to 130 years)", "give the age in years")
    if completed < youngest:
        message = f"age: below {youngest} years, for whom this is not meant"
        raise Unscorable(message, "use a chart or formula made for children")
    return completed


def is_female(sex: str) -> bool:
    """Raises Unscorable for a sex that a formula has no constants for."""
    word = sex.strip().lower()
    if word not in {"female", "f", "male", "m"}:
        raise Unscorable("sex: the formula knows 'female' and 'male'", "give one of them")
    return word in {"female", "f"}
