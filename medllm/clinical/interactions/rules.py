"""Which rule speaks of which pair of drugs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from medllm.clinical.drugs.names import DrugNames, build_drug_names
from medllm.clinical.finding import SEVERITIES
from medllm.clinical.interactions.tables import NONE
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row

Pair = tuple[str, str]
"""Two drugs, or a drug and a class that a text names; in alphabetical order."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that speaks of a pair, and how many of the two it names itself."""

    row: Row
    specificity: int
    is_verified: bool
    """Whether the rule was read, and that the drugs belong to the classes that it names."""

    @property
    def is_none(self) -> bool:
        """Whether the rule says that the pair must not interrupt."""
        return bool(self.row["severity"] == NONE)

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The most specific rule comes first, then the worst, then a verified one."""
        severity = -1 if self.is_none else SEVERITIES.index(self.row["severity"])
        return self.specificity, severity, self.is_verified


@dataclass(frozen=True)
class InteractionRules:
    """The rules by the drugs and classes that they name."""

    names: DrugNames
    by_term: Mapping[str, tuple[tuple[Row, str], ...]]

    def matches(self, things: Iterable[str]) -> Mapping[Pair, list[Match]]:
        """For each pair among drugs and named classes the rules that speak of it."""
        sides: dict[str, tuple[Row, dict[str, dict[str, str]]]] = {}
        for thing in things:
            for term in self._terms(thing):
                for row, side in self.by_term.get(term, ()):
                    by_side = sides.setdefault(row["id"], (row, {"a": {}, "b": {}}))[1]
                    by_side[side].setdefault(thing, term)
        found: dict[Pair, list[Match]] = {}
        for row, by_side in sides.values():
            for pair, match in self._pairs(row, by_side["a"], by_side["b"]):
                found.setdefault(pair, []).append(match)
        return found

    def is_member(self, drug: str, drug_class: str) -> bool:
        """Whether a drug is of a class, or is that class as a text names it."""
        return drug == drug_class or drug_class in self.names.classes_of.get(drug, ())

    def is_any_of(self, drug: str, names: Iterable[str]) -> bool:
        """Whether a drug or a member of its classes is named."""
        return any(self.is_member(drug, name) for name in names)

    def _terms(self, thing: str) -> Iterator[str]:
        """What a rule may name a thing by: itself, then its classes, those that were read first."""
        yield thing
        classes = sorted(self.names.classes_of.get(thing, ()))
        yield from sorted(classes, key=lambda each: (each, thing) in self.names.unverified)

    def _pairs(
        self, row: Row, a: Mapping[str, str], b: Mapping[str, str]
    ) -> Iterator[tuple[Pair, Match]]:
        excepted = row.get("except", ())
        for one, term in a.items():
            for other, other_term in b.items():
                if self.is_member(one, other) or self.is_member(other, one):
                    continue
                if excepted and (one in excepted or other in excepted):
                    continue
                memberships = {(term, one), (other_term, other)}
                match = Match(
                    row,
                    (term == one) + (other_term == other),
                    row["verified"] and memberships.isdisjoint(self.names.unverified),
                )
                yield (min(one, other), max(one, other)), match


def build_interaction_rules(knowledge: Knowledge) -> InteractionRules:
    """The index of the rules; ask `knowledge.built` for it."""
    by_term: dict[str, list[tuple[Row, str]]] = {}
    for row in knowledge.rows("interactions"):
        for side in ("a", "b"):
            for term in row[side]:
                by_term.setdefault(term, []).append((row, side))
    names = knowledge.built(build_drug_names)
    return InteractionRules(names, {term: tuple(rows) for term, rows in by_term.items()})


def choose(matches: Iterable[Match]) -> Match | None:
    """The rule that decides on a pair; none where the pair must not interrupt.

    A rule that names both drugs wins over one that names a class. A pair of severity `none` wins
    over all that is not more specific, unless that is verified and major or worse: aspirin is in
    no way safe with whatever else it does because a list of beta-blockers must not interrupt. An
    unverified rule never wins over a verified `none`.
    """
    speaking = [each for each in matches if not each.is_none]
    best = max(speaking, key=lambda each: each.rank, default=None)
    silent = max((m for m in matches if m.is_none), key=lambda each: each.rank, default=None)
    if best is None or silent is None:
        return best
    if silent.is_verified and not best.is_verified:
        return None
    if best.specificity != silent.specificity:
        return best if best.specificity > silent.specificity else None
    is_grave = SEVERITIES.index(best.row["severity"]) >= SEVERITIES.index("major")
    return best if best.is_verified and is_grave else None
