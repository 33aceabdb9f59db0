"""The tables of interactions and of ingredients taken twice."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm.clinical.finding import SEVERITIES
from medllm.clinical.rules.tables import Row, Table
from medllm.errors import did_you_mean

NONE = "none"
"""The severity of a pair that must not interrupt."""
CONDITIONS = ("diabetes", "neonate", "renal impairment", "renal or hepatic impairment")
ANY = "any"


def _names(tables: Mapping[str, Any]) -> set[str]:
    classes = {str(row["class"]) for row in tables["drug_classes"].values()}
    return classes | {*tables["drugs"]}


def _faults_of_pair(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    known = _names(tables)
    for column in ("a", "b", "except", "third"):
        names = row.get(column, [])
        if not isinstance(names, list):
            yield f"{column} must be a list of drugs and classes"
            continue
        for name in names:
            if name not in known:
                yield f"no drug or class '{name}'; {did_you_mean(name, known)}".rstrip("; ")
    if row["severity"] not in (*SEVERITIES, NONE):
        yield f"severity must be one of {', '.join((*SEVERITIES, NONE))}"
    if row.get("condition") not in (None, *CONDITIONS):
        yield f"condition must be one of {', '.join(CONDITIONS)}"
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
    if row["drug"] != ANY and row["drug"] not in tables["drugs"]:
        yield f"no drug '{row['drug']}'"
    if row["severity"] not in SEVERITIES:
        yield f"severity must be one of {', '.join(SEVERITIES)}"


INTERACTIONS = Table(
    name="interactions",
    columns=frozenset(
        {"a", "b", "severity", "mechanism", "action", "text"}
        | {"except", "third", "when", "condition", "over", "eased"}
    ),
    needed=frozenset({"a", "b", "severity"}),
    faults=_faults_of_pair,
)
"""Two lists of drugs and classes; any of the one with any of the other interacts.

`eased` names words beside which the pair is meant, and how severe it is then.
"""
DUPLICATES = Table(
    name="duplicates",
    columns=frozenset({"drug", "severity", "mechanism", "action"}),
    needed=frozenset({"drug", "severity"}),
    faults=_faults_of_duplicate,
)
"""How bad it is to take an ingredient in two products; the row of `any` is for all others."""
