"""Scores of parts of the items: by sex, age band, site, modality, or whatever the rows say."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import quantiles
from typing import Any

from medllm.errors import ConfigError
from medllm.evaluate.analysis.outcomes import Outcomes, Record
from medllm.evaluate.kinds.base import by_value
from medllm.measures.intervals import Estimate, estimate_ratio, estimate_share, without_certainty

AGES = (18, 40, 65, 80)
"""Where age bands begin, in years: adults, the middle-aged, old, very old."""
FEW = 30
"""Below so many items, or patients, a subgroup is said to be small."""
MOST_VALUES = 12
"""Numbers of more different values than this are put into bands."""
UNKNOWN = "not known"
_AGE = re.compile(r"(?i)(\d{1,3}(?:\.\d+)?) ?(?:y|yo|y/o|yrs?|years?)?(?: old)?")

Row = dict[str, Any]


def score_subgroups(
    found: Sequence[Outcomes], asked: Sequence[str], gated: Sequence[str] = ()
) -> list[Row]:
    """The score of each value of each field, for each model and task.

    Raises:
        ConfigError: no row of any task has a field that was asked for.
    """
    rows: list[Row] = []
    for field in dict.fromkeys((*asked, *gated)):
        made = [row for each in found for row in _by_field(each, field)]
        if not made and field in asked:
            known = sorted({f"metadata.{key}" for each in found for key in _facts_of(each)})
            fix = f"name one of: {', '.join(['target', *known])}"
            raise ConfigError(f"--by {field}: no item of these tasks has it", fix)
        rows += made
    return rows


def score_subjects(found: Sequence[Outcomes], comparisons: Sequence[Row]) -> list[Row]:
    """The score of each subject, the worst first, and what was lost there beside the baseline."""
    changes = {
        (row["model"], row["task"], subject): change
        for row in comparisons
        for subject, change in row.get("by_subject", {}).items()
    }
    rows: list[Row] = []
    for each in found:
        own = []
        for subject, records in by_value(each.records, "subject").items():
            gained, lost = changes.get((each.model, each.task, subject), (None, None))
            known: Row = {"model": each.model, "task": each.task, "subject": subject}
            known |= {"items": len(records), **asdict(estimate_part(each, records))}
            own.append({**known, "gained": gained, "lost": lost})
        rows += sorted(own, key=lambda row: (row["value"], row["subject"]))
    return rows


def _by_field(found: Outcomes, field: str) -> Iterator[Row]:
    records = [record for record in found.records if record["weight"]]
    values = [value_of(record, field) for record in records]
    if all(value is None for value in values):
        return
    parts: defaultdict[str, list[Record]] = defaultdict(list)
    for name, record in zip(_named(field, values), records, strict=True):
        parts[name].append(record)
    for name in sorted(parts, key=_order):
        records = parts[name]
        units = len({record["group"] for record in records})
        estimate = estimate_part(found, records)
        known: Row = {"model": found.model, "task": found.task, "measure": found.measure.name}
        known |= {"unit": found.measure.unit, "by": field, "group": name, "items": len(records)}
        ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        yield {**known, "units": units, **ends, "few": min(units, len(records)) < FEW}


def estimate_part(found: Outcomes, records: Sequence[Record]) -> Estimate:
    """The measure over some of the items, with its interval."""
    values = [record["value"] for record in records]
    groups = [record["group"] for record in records]
    if found.measure.is_share:
        return estimate_share([*map(bool, values)], groups)
    weights = [record["weight"] for record in records]
    return without_certainty(estimate_ratio(values, weights, groups))


def value_of(record: Record, field: str) -> Any:
    """What a record says of a field: `metadata.sex`, `sex` for short, or `target`."""
    name = field.removeprefix("metadata.")
    facts = record.get("metadata", {})
    value = facts.get(name, record.get(name) if name == field == "target" else None)
    value = value.strip() if isinstance(value, str) else value
    return None if value == "" or value != value else value  # NaN is equal to nothing


def _facts_of(found: Outcomes) -> set[str]:
    return {key for record in found.records for key in record.get("metadata", {})}


def _named(field: str, values: Sequence[Any]) -> list[str]:
    """A name of each value: numbers in bands where there are many, ages also as CSV has them."""
    is_age = re.search(r"(^|[._ ])age([._ ]|$)", field.lower()) is not None
    numbers = [_years(value) if is_age else _number(value) for value in values]
    known = [each for each in numbers if each is not None]
    are_numbers = is_age or len(known) == sum(value is not None for value in values)
    if not known or not are_numbers or (len({*known}) <= MOST_VALUES and not is_age):
        return [_shown(value) for value in values]
    starts = AGES if is_age else sorted({*quantiles(known, n=4)})
    return [
        _shown(value) if number is None else _band(number, starts)
        for value, number in zip(values, numbers, strict=True)
    ]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _years(value: Any) -> float | None:
    """An age, also as text: `67`, `67 years`."""
    found = _AGE.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) if found else _number(value)


def _band(value: float, starts: Sequence[float]) -> str:
    at = bisect_right(starts, value)
    if at == 0:
        return f"below {starts[0]:g}"
    if at == len(starts):
        return f"{starts[-1]:g} and over"
    return f"{starts[at - 1]:g} to below {starts[at]:g}"


def _shown(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(name: str) -> tuple[int, float, str]:
    """Bands by where they begin, other names by letters, the unknown last."""
    number = re.search(r"-?[\d.]+", name)
    begins = float(number[0]) if number and re.match(r"(below )?-?\d", name) else 0.0
    return (name == UNKNOWN, begins - name.startswith("below "), name)
