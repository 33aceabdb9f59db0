"""Which words name which drugs, and which drugs make up a class."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.phrases import Phrases

UNITS = ("gram", "grams", "litre", "litres", "liter", "liters", "grammes")


@dataclass(frozen=True, slots=True)
class Name:
    """What a name stands for: ingredients, or a class.

    An ambiguous name (iron, Soma) is also a common word or a value of a laboratory.
    """

    drugs: tuple[str, ...]
    is_brand: bool = False
    is_ambiguous: bool = False
    drug_class: str | None = None


@dataclass(frozen=True)
class DrugNames:
    """The names of drugs and classes, and who is a member of what."""

    phrases: Phrases[Name]
    classes_of: Mapping[str, frozenset[str]]
    members_of: Mapping[str, tuple[str, ...]]
    unverified: frozenset[tuple[str, str]]
    """Classes and members where nobody has read that the one belongs to the other."""
    words: frozenset[str]
    """The words of all names and of their units, as a line end may part them."""
    in_rules: frozenset[str]
    """The ingredients that the tables of drugs hold; the others are known by name alone."""


def build_drug_names(knowledge: Knowledge) -> DrugNames:
    """The names of all drugs in these rules; ask `knowledge.built` for it."""
    members: dict[str, dict[str, bool]] = {}
    for row in knowledge.rows("drug_classes"):
        known = members.setdefault(row["class"], {})
        for drug in row["members"]:
            known[drug] = known.get(drug, False) or row["verified"]
    classes_of: dict[str, set[str]] = {}
    for name, drugs in members.items():
        for drug in drugs:
            classes_of.setdefault(drug, set()).add(name)
    phrases = Phrases(_names(knowledge))
    return DrugNames(
        phrases=phrases,
        words=phrases.words | {f"{of}{unit}" for of in ("milli", "micro") for unit in UNITS},
        classes_of={drug: frozenset(names) for drug, names in classes_of.items()},
        members_of={name: tuple(drugs) for name, drugs in members.items()},
        unverified=frozenset(
            (name, drug) for name, drugs in members.items() for drug in drugs if not drugs[drug]
        ),
        in_rules=frozenset(row["id"] for row in knowledge.rows("drugs")),
    )


def _names(knowledge: Knowledge) -> Iterator[tuple[str, Name]]:
    """Phrases with their meaning; where two are equal the first one counts."""
    for row in knowledge.rows("drugs"):
        yield from _of_row(row, (row["id"],))
    for row in knowledge.rows("products"):
        yield from _of_row(row, tuple(row["of"]), is_brand=True)
    for row in knowledge.rows("drug_vocabulary"):
        for entry in row["drugs"].split(";"):
            names = [each.strip() for each in entry.split("=")]
            meaning = Name((names[0],))
            yield from ((each, meaning) for each in names)
    for row in knowledge.rows("drug_classes"):
        meaning = Name((), drug_class=row["class"])
        for name in (row["class"], *row.get("names", ())):
            yield name, meaning
            yield _plural(name), meaning


def _of_row(
    row: Mapping[str, list[str]], drugs: tuple[str, ...], *, is_brand: bool = False
) -> Iterator[tuple[str, Name]]:
    ambiguous = {each.lower() for each in row.get("ambiguous", ())}
    for name in (str(row["id"]), *row.get("names", ())):
        yield name, Name(drugs, is_brand=is_brand, is_ambiguous=name.lower() in ambiguous)
    for name in row.get("brands", ()):
        yield name, Name(drugs, is_brand=True, is_ambiguous=name.lower() in ambiguous)


def _plural(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("therapy") else f"{name}s"
