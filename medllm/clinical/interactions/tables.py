"""The tables of interactions and of ingredients taken twice."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm.clinical.finding import SEVERITIES
from medllm.clinical.rules.tables import Row, Table, unknown_names

NONE = "none"
"""The severity of a pair that must not interrupt."""
CONDITIONS = ("diabetes", "neonate", "renal impairment", "renal or hepatic impairment")
ANY = "any"


_NAMES = ("a", "b", "except", "third")


def _known(tables: Mapping[str, Any]) -> set[str]:
    classes = {str(row["class"]) for row in tables["drug_classes"].values()}
    return classes | {*tables["drugs"]}


def _faults_of_pair(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    names = (name for column in _NAMES if column in row for name in row[column])
    yield from unknown_names("drug or class", names, _known(tables))
    over = row.get("over", {"drug": "", "mg": 0})
    if not isinstance(over, dict) or over.keys() != {"drug", "mg"}:
        yield "over must be {drug: …, mg: …}"
    yield from _faults_of_ease(row.get("eased"))


def _faults_of_ease(eased: Any) -> Iterator[str]:
    """What is wrong with the words near which a pair is less severe."""
    if eased is None:
        return
    if not isinstance(eased, dict) or eased.keys() != {"by", "to", "as"}:
        yield "eased must be {by: [words, …], to: severity, as: …}"
    elif not isinstance(eased["by"], list) or eased["to"] not in SEVERITIES:
        yield f"eased needs a list of words in `by`, and one of {', '.join(SEVERITIES)} in `to`"


def _faults_of_duplicate(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    return unknown_names("drug", [row["drug"]], {ANY, *tables["drugs"]})


INTERACTIONS = Table(
    name="interactions",
    columns=frozenset(
        {*_NAMES, "severity", "mechanism", "action", "text", "when", "condition", "over", "eased"}
    ),
    needed=frozenset({"a", "b", "severity"}),
    lists=frozenset(_NAMES),
    choices={"severity": (*SEVERITIES, NONE), "condition": CONDITIONS},
    faults=_faults_of_pair,
)
"""Two lists of drugs and classes; any of the one with any of the other interacts.

`eased` names words beside which the pair is meant, and how severe it is then.
"""
DUPLICATES = Table(
    name="duplicates",
    columns=frozenset({"drug", "severity", "mechanism", "action"}),
    needed=frozenset({"drug", "severity"}),
    choices={"severity": SEVERITIES},
    faults=_faults_of_duplicate,
)
"""How bad it is to take an ingredient in two products; the row of `any` is for all others."""
