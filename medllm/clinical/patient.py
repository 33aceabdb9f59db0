"""What is known of the patient whom an answer is about."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from medllm.errors import DataError, did_you_mean

ADULT_YEARS = 18
_LISTS = ("conditions", "allergies", "medications")
_NUMBERS = {"age": (0, 130), "weight_kg": (0.2, 700), "egfr": (0, 250)}
_SEXES = ("female", "male")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A patient context; what is not given is not known, and is never taken for normal.

    `age` in years, `weight_kg` in kilograms, `egfr` in mL/min/1.73 m2; `conditions`, `allergies`
    and `medications` in the words of whoever wrote them.
    """

    age: float | None = None
    sex: str | None = None
    pregnant: bool | None = None
    breastfeeding: bool | None = None
    weight_kg: float | None = None
    egfr: float | None = None
    conditions: tuple[str, ...] = ()
    allergies: tuple[str, ...] = ()
    medications: tuple[str, ...] = ()

    @property
    def is_child(self) -> bool:
        """Whether the patient is known to be below 18 years."""
        return self.age is not None and self.age < ADULT_YEARS


def read_patient(context: Mapping[str, Any] | None) -> Patient:
    """The patient of a plain mapping, all of whose keys are optional.

    Raises:
        DataError: a key is unknown, or a value is not of its kind; the message names the key and
            never repeats the value.
    """
    known = [each.name for each in fields(Patient)]
    values: dict[str, Any] = {}
    for key, value in (context or {}).items():
        if key not in known:
            fix = f"{did_you_mean(str(key), known)}known are {', '.join(known)}"
            raise DataError(f"patient context: unknown key '{str(key):.40}'", fix)
        if value is not None:
            values[key] = _read_value(key, value)
    return Patient(**values)


def _read_value(key: str, value: Any) -> Any:
    if key in _LISTS:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise _wrong(key, "a list of texts")
        return tuple(value)
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(key, "a number")
        if not low <= value <= high:
            raise _wrong(key, f"between {low} and {high}")
        return float(value)
    if key == "sex":
        if value not in _SEXES:
            raise _wrong(key, " or ".join(_SEXES))
        return value
    if not isinstance(value, bool):
        raise _wrong(key, "true or false")
    return value


def _wrong(key: str, what: str) -> DataError:
    return DataError(f"patient context: {key} must be {what}", "correct it, or leave it out")
