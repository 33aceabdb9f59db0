"""The tables of drugs: ingredients, products, classes, and names that no rule mentions."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table, unknown_names

_NAMES = frozenset({"names", "brands", "ambiguous"})


def _unknown_drugs(row: Row, tables: Mapping[str, Any]) -> Iterator[str]:
    return unknown_names("drug", [*row.get("of", ()), *row.get("members", ())], tables["drugs"])


DRUGS = Table(name="drugs", columns=_NAMES, needed=frozenset(), lists=_NAMES)
"""An ingredient: its id is its international name, in the spelling that messages use."""
PRODUCTS = Table(
    name="products",
    columns=frozenset({"of", "names", "ambiguous"}),
    needed=frozenset({"of"}),
    lists=frozenset({"of", "names", "ambiguous"}),
    faults=_unknown_drugs,
)
"""A product of several ingredients, or a name for one."""
CLASSES = Table(
    name="drug_classes",
    columns=frozenset({"class", "names", "members"}),
    needed=frozenset({"class", "members"}),
    lists=frozenset({"names", "members"}),
    faults=_unknown_drugs,
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
