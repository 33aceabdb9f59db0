"""The tables of contraindications and of the conditions that they name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medllm.clinical.finding import SEVERITIES
from medllm.clinical.rules.tables import Row, Table, unknown_names

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
    wrong = [*_wrong_kinds(row)]
    yield from wrong or _unknown_names(row, tables)


def _wrong_kinds(row: Row) -> Iterator[str]:
    if not isinstance(row["when"], Mapping):
        yield "when must be a mapping"
        return
    yield from unknown_names("circumstance", row["when"], _KINDS)
    for key, value in row["when"].items():
        if not isinstance(value, _KINDS.get(key, object)):
            yield f"{key} is of the wrong kind"


def _unknown_names(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    when = row["when"]
    known = {*tables.get("drugs", {}), *(each["class"] for each in _classes(tables))}
    drugs = (*row["drugs"], *row.get("except", []), *when.get("allergy", []))
    yield from unknown_names("drug or class", drugs, known | {ANY_DRUG, SAME})
    conditions = (*when.get("condition", []), *when.get("not_condition", []))
    yield from unknown_names("condition", conditions, tables.get("conditions", {}))


def _classes(tables: Mapping[str, Any]) -> Iterable[Row]:
    rows: Iterable[Row] = tables.get("drug_classes", {}).values()
    return rows


CONDITIONS = Table(name="conditions", columns=frozenset({"names"}), needed=frozenset())
CONTRAINDICATIONS = Table(
    name="contraindications",
    columns=frozenset({"drugs", "except", "when", "text", "severity", "action"}),
    needed=frozenset({"drugs", "when", "text", "severity"}),
    lists=frozenset({"drugs", "except"}),
    choices={"severity": SEVERITIES},
    faults=_faults,
)
