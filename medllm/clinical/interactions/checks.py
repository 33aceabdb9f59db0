"""Interactions of the drugs that an answer has a patient take together."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations, islice

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding, NotChecked, Severity
from medllm.clinical.interactions.duplicates import find_duplicates
from medllm.clinical.interactions.rules import (
    InteractionRules,
    Match,
    Pair,
    build_interaction_rules,
    choose,
)
from medllm.clinical.interactions.together import Use, find_uses, places_of, warned_sentences
from medllm.clinical.patient import Patient
from medllm.clinical.rules.tables import Row
from medllm.clinical.text.phrases import words_in

_SAID: dict[Severity, str] = {
    "contraindicated": "must not be combined",
    "major": "should usually not be combined",
    "moderate": "need care together",
    "minor": "interact a little",
    "info": "are worth a thought together",
}
_PLACES = 4
"""So many uses of a drug are looked at, of each origin."""
_DRUGS = 40
"""Among so many drugs those that no rule speaks of are named."""
_DOSE = re.compile(r"[\s(:,-]{0,3}(\d[\d,]{0,6}(?:\.\d{1,3})?) ?(mg|g|mcg|ug)\b(.{0,40})")
_TIMES = {
    **dict.fromkeys(("twice", "two times", "bid", "b.i.d", "bd", "12 h", "q12h"), 2),
    **dict.fromkeys(("three times", "tid", "tds", "t.i.d", "8 h", "q8h"), 3),
    **dict.fromkeys(("four times", "qid", "qds", "6 h", "q6h"), 4),
}
_TO_MG = {"mg": 1.0, "g": 1000.0, "mcg": 0.001, "ug": 0.001}
RENAL_EGFR = 60
NEONATE_YEARS = 28 / 365.25


def find_interactions(case: Case) -> Iterator[Finding | NotChecked]:
    """What speaks against taking together what the answer advises, states, or the patient takes."""
    uses = find_uses(case)
    if not any(each.origin == "advised" for each in uses):
        return
    yield from find_duplicates(case, uses)
    by_thing = _by_thing(uses)
    if len(by_thing) < 2:
        return
    rules = case.knowledge.built(build_interaction_rules)
    matches = rules.matches(by_thing)
    warned = warned_sentences(case)
    for pair, found in matches.items():
        places = _places(by_thing, pair)
        one, other = (warned.get(each, set()) for each in pair)
        if places is None or not one.isdisjoint(other):  # a sentence warns against both together
            continue
        match, limit = _decide(case, rules, by_thing, pair, found)
        if match:
            yield _finding(case, match, pair, places, limit)
    yield from _not_checked(rules, by_thing, matches)


def _by_thing(uses: list[Use]) -> dict[str, list[Use]]:
    """The uses of each drug and named class, the first few of each origin."""
    found: dict[str, list[Use]] = {}
    seen: dict[tuple[str, str], int] = {}
    for use in uses:
        for thing in use.things:
            count = seen[thing, use.origin] = seen.get((thing, use.origin), 0) + 1
            if count <= _PLACES:
                found.setdefault(thing, []).append(use)
    return found


def _places(by_thing: Mapping[str, list[Use]], pair: Pair) -> tuple[Use, Use] | None:
    """The first uses of a pair that are together; not two ingredients of one product."""
    for one in by_thing[pair[0]]:
        for other in by_thing[pair[1]]:
            is_one_product = {*pair} <= {*one.mention.drugs} & {*other.mention.drugs}
            if one.is_taken_with(other) and one.mention != other.mention and not is_one_product:
                return one, other
    return None


def _decide(
    case: Case,
    rules: InteractionRules,
    by_thing: Mapping[str, list[Use]],
    pair: Pair,
    found: list[Match],
) -> tuple[Match | None, str]:
    """The rule that decides, and what is not known but must be so for it to hold."""
    holding: list[Match] = []
    limits: dict[str, str] = {}
    least = 0
    for match in found:
        if not _has_third(rules, by_thing, pair, match):
            continue
        limit = _limit(case.patient, by_thing, pair, match)
        if limit is not None:
            holding.append(match)
            limits[match.row["id"]] = limit
        elif match.row.get("over"):  # the dose is one that this rule allows; it wins over a class
            least = max(least, match.specificity)
    holding = [each for each in holding if each.specificity >= least]
    certain = [m for m in holding if not m.row.get("condition") or not limits[m.row["id"]]]
    chosen = choose(certain) or choose(holding)
    limit = limits[chosen.row["id"]] if chosen else ""
    is_silent = bool(limit) and any(each.is_none for each in found)
    return (None, "") if is_silent else (chosen, limit)


def _has_third(
    rules: InteractionRules, by_thing: Mapping[str, list[Use]], pair: Pair, match: Match
) -> bool:
    """Whether the third drug that a rule asks for is there, if it asks for one."""
    third = match.row.get("third")
    others = (each for each in by_thing if each not in pair)
    return not third or any(rules.is_any_of(each, third) for each in others)


def _limit(
    patient: Patient, by_thing: Mapping[str, list[Use]], pair: Pair, match: Match
) -> str | None:
    """What must be so besides, in words; "" where nothing must; None where it is not so."""
    row = match.row
    limit = str(row.get("when", ""))
    if condition := row.get("condition"):
        holds = _has(patient, condition)
        if holds is False:
            return None
        limit = "" if holds else limit
    over = row.get("over")
    if over and over["drug"] in pair:
        doses = [_daily_mg(each) for each in by_thing[over["drug"]]]
        stated = [each for each in doses if each is not None]
        if stated and max(stated) <= over["mg"]:
            return None
        if not stated:
            limit = f"{over['drug']} is over {over['mg']} mg a day"
    return limit


def _has(patient: Patient, condition: str) -> bool | None:
    """Whether a patient has a condition, as far as the context says."""
    if condition == "neonate":
        return None if patient.age is None else patient.age <= NEONATE_YEARS
    if condition == "diabetes":
        return any("diabet" in each.lower() for each in patient.conditions) or None
    if patient.egfr is not None and patient.egfr < RENAL_EGFR:
        return True
    if condition == "renal impairment" and patient.egfr is not None:
        return False
    return None


def _daily_mg(use: Use) -> float | None:
    """The daily dose that is written right behind a drug, or None."""
    folded = use.reading.folded.text
    dose = _DOSE.match(folded, use.reading.ends[use.mention.last - 1])
    if not dose:
        return None
    times = next((times for words, times in _TIMES.items() if words in dose[3]), 1)
    return float(dose[1].replace(",", "")) * _TO_MG[dose[2]] * times


def _finding(case: Case, match: Match, pair: Pair, places: tuple[Use, Use], limit: str) -> Finding:
    row = match.row
    severity, how = _severity(row, places)
    one, other = pair
    because = f"{row.get('text') or row.get('mechanism', '')}{how}"
    whether = f", if {limit}" if limit else ""
    basis = replace(case.knowledge.basis(row), verified=match.is_verified)
    where, spans = places_of(case, places)
    return Finding(
        rule=row["id"],
        kind="interaction",
        severity=severity,
        message=f"{one[:1].upper()}{one[1:]} and {other} {_SAID[severity]}{whether}"
        + (f": {because}." if because else "."),
        action=row.get("action", ""),
        basis=basis,
        spans=tuple(spans),
        where=where,
    )


def _severity(row: Row, places: tuple[Use, Use]) -> tuple[Severity, str]:
    """The severity of a row where it fires, and in words why it is less than usual, if it is."""
    severity: Severity = row["severity"]
    eased = row.get("eased", {})
    if eased and any(_is_near(each, eased["by"]) for each in places):
        severity = eased["to"]
        return severity, f" ({eased['as']})"
    return severity, ""


def _is_near(use: Use, phrases: Iterable[str]) -> bool:
    """Whether one of some phrases stands in the sentence of a use, or in one beside it."""
    reading = use.reading
    first, last = reading.sentence_at(use.mention.first)
    first = reading.sentence_at(first - 1)[0] if first else first
    last = reading.sentence_at(last)[1] if last < len(reading.words) else last
    around = f" {' '.join(reading.words[first:last])} "
    return any(_between_spaces(each) in around for each in phrases)


@cache
def _between_spaces(phrase: str) -> str:
    return f" {' '.join(words_in(phrase))} "


def _not_checked(
    rules: InteractionRules, by_thing: Mapping[str, list[Use]], matches: Mapping[Pair, list[Match]]
) -> Iterator[NotChecked]:
    """One line of the drugs that are together and of which no rule speaks."""
    beyond: set[str] = set()
    for pair in combinations(sorted(islice(by_thing, _DRUGS)), 2):
        is_same = rules.is_member(*pair) or rules.is_member(*reversed(pair))
        if not beyond.issuperset(pair) and pair not in matches and not is_same:
            beyond.update(pair if _places(by_thing, pair) else ())
    if beyond:
        yield NotChecked("interaction", f"{', '.join(sorted(beyond))} together, beyond the rules")
