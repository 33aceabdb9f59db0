"""The tables of drugs: ingredients, products, classes, and names that no rule mentions."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table
from medllm.errors import did_you_mean


def _unknown(row: Row, tables: Mapping[str, Any], column: str) -> Iterator[str]:
    known = tables["drugs"]
    for name in row.get(column, ()):
        if name not in known:
            yield f"no drug '{name}' in the table of drugs; {did_you_mean(name, known)}".rstrip(
                "; "
            )


def _faults_of_names(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    for column in ("names", "brands", "ambiguous", "of", "members"):
        value = row.get(column, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            yield f"{column} must be a list of names"


def _faults_of_product(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    yield from [*_faults_of_names(row, tables)] or _unknown(row, tables, "of")


def _faults_of_class(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    yield from [*_faults_of_names(row, tables)] or _unknown(row, tables, "members")


DRUGS = Table(
    name="drugs",
    columns=frozenset({"names", "brands", "ambiguous"}),
    needed=frozenset(),
    faults=_faults_of_names,
)
"""An ingredient: its id is its international name, in the spelling that messages use."""
PRODUCTS = Table(
    name="products",
    columns=frozenset({"of", "names", "ambiguous"}),
    needed=frozenset({"of"}),
    faults=_faults_of_product,
)
"""A product of several ingredients, or a name for one."""
CLASSES = Table(
    name="drug_classes",
    columns=frozenset({"class", "names", "members"}),
    needed=frozenset({"class", "members"}),
    faults=_faults_of_class,
)
"""Some members of a class; the rows of one `class` are read together."""
VOCABULARY = Table(
    name="drug_vocabulary", columns=frozenset({"drugs"}), needed=frozenset({"drugs"})
)
"""Names of drugs that no rule mentions, as one text: `name = other name = other; name; …`."""

RXCUIS = Table(name="rxcuis", columns=frozenset({"codes"}), needed=frozenset({"codes"}))
"""RxNorm's identifiers of ingredients, as one text: `code = ingredient; …`."""


def read_rxcuis(knowledge: Knowledge) -> dict[str, str]:
    """The ingredient of each RxCUI; ask `knowledge.built` for it."""
    pairs = (
        entry.split("=") for row in knowledge.rows("rxcuis") for entry in row["codes"].split(";")
    )
    return {code.strip(): drug.strip() for code, drug in pairs}
