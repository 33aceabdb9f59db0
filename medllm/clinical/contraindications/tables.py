"""The tables of contraindications and of the conditions that they name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from medllm.clinical.finding import Severity
from medllm.clinical.rules.tables import Row, Table
from medllm.errors import did_you_mean

ANY_DRUG = "any"
SAME = "same"
LISTS = ("condition", "not_condition", "allergy")
TRUTHS = ("pregnant", "breastfeeding")
NUMBERS = (
    *("age_from", "age_below", "weeks_from", "weeks_below"),
    *("egfr_from", "egfr_below", "egfr_above"),
)
_KINDS: dict[str, Any] = {
    **dict.fromkeys(LISTS, list),
    **dict.fromkeys(TRUTHS, bool),
    **dict.fromkeys(NUMBERS, (int, float)),
}


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    if row["severity"] not in get_args(Severity):
        yield f"severity must be one of {', '.join(get_args(Severity))}"
    wrong = [*_wrong_kinds(row)]
    yield from wrong or _unknown_names(row, tables)


def _wrong_kinds(row: Row) -> Iterator[str]:
    if not all(isinstance(each, list) for each in (row["drugs"], row.get("except", []))):
        yield "drugs and except must be lists"
    if not isinstance(row["when"], Mapping):
        yield "when must be a mapping"
        return
    for key, value in row["when"].items():
        if key not in _KINDS:
            yield f"unknown circumstance '{key}'; {did_you_mean(key, _KINDS)}".rstrip("; ")
        elif not isinstance(value, _KINDS[key]):
            yield f"{key} is of the wrong kind"


def _unknown_names(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    when = row["when"]
    known = {*tables.get("drugs", {}), *(each["class"] for each in _classes(tables))}
    for name in (*row["drugs"], *row.get("except", []), *when.get("allergy", [])):
        if name not in known | {ANY_DRUG, SAME}:
            yield f"no drug or class '{name}'; {did_you_mean(name, known)}".rstrip("; ")
    conditions = tables.get("conditions", {})
    for name in (*when.get("condition", []), *when.get("not_condition", [])):
        if name not in conditions:
            yield f"no condition '{name}'; {did_you_mean(name, conditions)}".rstrip("; ")


def _classes(tables: Mapping[str, Any]) -> Iterable[Row]:
    rows: Iterable[Row] = tables.get("drug_classes", {}).values()
    return rows


CONDITIONS = Table(name="conditions", columns=frozenset({"names"}), needed=frozenset())
CONTRAINDICATIONS = Table(
    name="contraindications",
    columns=frozenset({"drugs", "except", "when", "text", "severity", "action"}),
    needed=frozenset({"drugs", "when", "text", "severity"}),
    faults=_faults,
)
