"""The facts of an answer beside those of its reference and of its source."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medllm.clinical.finding import Severity
from medllm.clinical.text.reading import Span
from medllm.measures.text.facts import CLASSES, Fact, Key

SEVERITY: Mapping[str, Severity] = {
    "diagnosis": "major", "medication": "major", "vital sign": "moderate",
    "laboratory value": "moderate", "procedure": "moderate", "finding": "moderate",
    "follow-up": "minor", "date": "minor",
}  # fmt: skip
"""What a fact that no source states may lead to, by its class: a judgement of this project, not
verified by a clinician. The contrary of what a source states is always major."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A fact of an answer that its source does not state, or states otherwise.

    `flip` is empty, or what is the other way round: negation, stopping, laterality, whose it is.
    """

    kind: str
    severity: Severity
    flip: str
    place: Span


def distinct(facts: Iterable[Fact]) -> list[Fact]:
    """The facts, each once, where it stands first."""
    return list({each.wants: each for each in reversed(list(facts))}.values())[::-1]


def given_by(facts: Iterable[Fact]) -> frozenset[Key]:
    """The keys that facts give."""
    return frozenset(key for each in facts for key in each.gives)


def count_shared(facts: Sequence[Fact], others: Sequence[Fact]) -> dict[str, tuple[int, int]]:
    """By class: how many distinct facts there are, and how many of them the others state, too.

    A less exact form in the others counts: pneumonia for lobar pneumonia, 7.4 for 7.38.
    """
    given = given_by(others)
    wanted = frozenset(key for each in others for key in each.wants)
    found = distinct(facts)
    return {
        kind: (
            sum(each.kind == kind for each in found),
            sum(
                each.kind == kind
                and bool(each.wants & given or each.gives & wanted or each.may & given)
                for each in found
            ),
        )
        for kind in CLASSES
    }


def find_unsupported(answer: Sequence[Fact], source: Sequence[Fact]) -> list[Unsupported]:
    """The facts of an answer that its source does not state, in order.

    What the source has as a short form of several meanings alone (`MS`) is minor: nobody but its
    writer knows.
    """
    given, sides = given_by(source), _sides_of(source)
    may = frozenset(key for each in source for key in each.may)
    found = []
    for fact in distinct(answer):
        flip = ""
        if fact.wants & given:
            flip = "laterality" if _is_other_side(fact, sides) else ""
            if not flip:
                continue
        else:
            flip = next((told for key, told in fact.opposites.items() if key in given), "")
        severity: Severity = "major" if flip else SEVERITY[fact.kind]
        if not flip and fact.wants & may:
            severity = "minor"
        found.append(Unsupported(fact.kind, severity, flip, fact.place))
    return found


def _sides_of(facts: Iterable[Fact]) -> Mapping[str, set[str]]:
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for each in facts:
        for name in each.names:
            sides[name].add(each.side)
    return sides


def _is_other_side(fact: Fact, sides: Mapping[str, set[str]]) -> bool:
    """Whether a source names a side for it wherever it names it, and never this one."""
    stated = set[str]().union(*(sides.get(name, set()) for name in fact.names))
    if not fact.side or "" in stated or not stated:
        return False
    return fact.side not in stated and "bilateral" not in stated
