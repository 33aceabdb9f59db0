"""The same ingredient in two products that an answer has a patient take."""

from collections.abc import Iterator
from itertools import combinations

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding
from medllm.clinical.interactions.tables import ANY
from medllm.clinical.interactions.together import Use, between, is_joined, places_of
from medllm.clinical.rules.tables import Row
from medllm.clinical.text.phrases import words_in

_GOING_ON = frozenset(words_in("""
    continue continued continuing keep maintain same current increase reduce decrease adjust
    titrate resume carry usual your still
"""))  # fmt: skip
_NEW = frozenset(words_in("add start begin initiate also another additional extra commence"))
_SWITCH = frozenset({"switch", "switched", "switching"})
_BESIDES = frozenset({"and", "with", "plus", "also", "add"})
_USES = 6
"""So many uses of an ingredient are compared."""


def find_duplicates(case: Case, uses: list[Use]) -> Iterator[Finding]:
    """A finding for each ingredient that is in two products which are taken together."""
    by_drug: dict[str, list[Use]] = {}
    for use in uses:
        for drug in use.mention.drugs:
            known = by_drug.setdefault(drug, [])
            if len(known) < _USES or use.origin in {"question", "medications"}:
                known.append(use)
    rows = {row["drug"]: row for row in case.knowledge.rows("duplicates")}
    for drug, known in by_drug.items():
        for one, other in combinations(known[: 3 * _USES], 2):
            if one.is_taken_with(other) and _are_two(one, other):
                row = rows.get(drug) or rows.get(ANY)
                if row:
                    yield _finding(case, row, drug, (one, other))
                break


def _are_two(one: Use, other: Use) -> bool:
    """Whether two uses are two products, not the same one under two names."""
    if one.origin == other.origin == "advised":
        return _are_two_in_answer(one, other)
    advised, known = (one, other) if one.origin == "advised" else (other, one)
    before = set(_words_before(advised))
    if _is_switched_to(one) or _is_switched_to(other):
        return False
    if set(one.mention.drugs) != set(other.mention.drugs):
        return True
    if one.reading is other.reading and one.words == other.words:
        return False
    if not before.isdisjoint(_GOING_ON):
        return False
    return not before.isdisjoint(_NEW) or (
        advised.mention.is_brand and not _is_same_name(one, other)
    )


def _are_two_in_answer(one: Use, other: Use) -> bool:
    is_other_product = set(one.mention.drugs) != set(other.mention.drugs)
    if one.words == other.words or _is_switched_to(other):
        return False
    if one.sentence == other.sentence:
        return is_joined(between(one.reading, one.mention, other.mention)) or is_other_product
    are_items = _is_item(one) and _is_item(other)
    return are_items or is_other_product or not _NEW.isdisjoint(_words_before(other))


def _is_switched_to(use: Use) -> bool:
    """Whether a use is what another one gives way to: "switch from Mavik to Tarka"."""
    before = _words_before(use)
    switches = [at for at, word in enumerate(before) if word in _SWITCH]
    between = before[switches[-1] + 1 :] if switches else []
    return "to" in between and _BESIDES.isdisjoint(between)


def _is_same_name(one: Use, other: Use) -> bool:
    """Whether one name is the other with a salt or a form: Toprol and Toprol-XL."""
    shorter, longer = sorted((one.words, other.words), key=len)
    return longer[: len(shorter)] == shorter


def _is_item(use: Use) -> bool:
    first, _ = use.reading.sentence_at(use.mention.first)
    return use.reading.begins_line(first)


def _words_before(use: Use) -> list[str]:
    first = use.mention.first
    return use.reading.words[max(use.sentence, first - 6, 0) : first]


def _finding(case: Case, row: Row, drug: str, places: tuple[Use, Use]) -> Finding:
    where, spans = places_of(case, places)
    return Finding(
        rule=row["id"],
        kind="same ingredient",
        severity=row["severity"],
        message=f"{drug[:1].upper()}{drug[1:]} is in two products that are taken together"
        f": {row.get('mechanism') or 'the same ingredient twice'}.",
        action=row.get("action", ""),
        basis=case.knowledge.basis(row),
        spans=tuple(spans),
        where=where,
    )
