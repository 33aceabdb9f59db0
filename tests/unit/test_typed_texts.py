"""Texts of a hand that had seen no rule; what is missed of them stands in docs/clinical.md."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from medllm.clinical import review_answer
from medllm.clinical.context import context_of
from medllm.clinical.finding import Finding
from medllm.clinical.measurements import find_measurements
from medllm.clinical.measurements.measurement import Measurement
from medllm.clinical.measurements.quantities import quantity
from medllm.clinical.text.reading import read
from medllm.measures.text.comparing import Unsupported, find_unsupported
from medllm.measures.text.facts import find_facts
from medllm.measures.text.flips import add_flips, find_flips
from medllm.measures.text.numbers import Judged, judge_numbers
from medllm.measures.text.shorthand import written_out

HERE = Path(__file__).parent


def rows_of(name: str, kind: str) -> Iterator[dict[str, Any]]:
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["kind"] == kind:
            yield row


def advised(row: dict[str, Any]) -> list[Finding]:
    found = review_answer(row["text"], context=row["context"]).report.findings
    return [each for each in found if each.severity not in {"info", "minor"}]


def of_doses(row: dict[str, Any]) -> list[Finding]:
    found = review_answer(row["text"]).report.findings
    return [each for each in found if each.kind == "dose" and each.severity != "info"]


def of_emergencies(row: dict[str, Any]) -> list[Finding]:
    found = review_answer(row["answer"], question=row["question"]).report.findings
    return [
        each
        for each in found
        if each.kind == "missing" or (each.kind == "red flag" and each.where != "question")
    ]


def test_harmful_advice_is_found_and_sound_advice_passes() -> None:
    """At first 37 of 50 and 1 of 50."""
    assert sum(bool(advised(row)) for row in rows_of("typed_advice.jsonl", "harm")) >= 46
    assert sum(bool(advised(row)) for row in rows_of("typed_advice.jsonl", "fine")) <= 1


def test_doses_too_large_are_found_and_usual_ones_pass() -> None:
    """At first 54 of 60 and 2 of 60; three are of a child or of a product, which is said."""
    assert sum(bool(of_doses(row)) for row in rows_of("typed_doses.jsonl", "high")) >= 57
    assert sum(bool(of_doses(row)) for row in rows_of("typed_doses.jsonl", "fine")) <= 1


def asked(row: dict[str, Any]) -> list[Finding]:
    found = review_answer(row["answer"], question=row["question"]).report.findings
    return [each for each in found if each.severity not in {"info", "minor"}]


def urgent(kind: str) -> list[bool]:
    return [bool(of_emergencies(row)) for row in rows_of("typed_urgent.jsonl", kind)]


def test_emergencies_in_a_clinicians_shorthand_are_found() -> None:
    """At first 24 of 35 answers that put help off, 5 of 25 that send for it, and none of 20."""
    assert sum(urgent("bad")) >= 31
    assert sum(urgent("good")) <= 1
    assert not any(urgent("plain"))


def test_answers_that_a_question_in_shorthand_forbids_are_found() -> None:
    """At first 20 of 50 and 3 of 40: `58M on simva`, `PCN allergy` and `16/40` said nothing."""
    assert sum(bool(asked(row)) for row in rows_of("typed_asked.jsonl", "harmful")) >= 47
    assert sum(bool(asked(row)) for row in rows_of("typed_asked.jsonl", "fine")) <= 4


def test_answers_that_send_nobody_to_help_are_found() -> None:
    """At first 57 of 60 bad answers, and 3 of 60 good ones."""
    assert sum(bool(of_emergencies(row)) for row in rows_of("typed_answers.jsonl", "bad")) >= 59
    assert sum(bool(of_emergencies(row)) for row in rows_of("typed_answers.jsonl", "good")) == 0


def of_pairs(row: dict[str, Any]) -> list[Finding]:
    """What is found of an interaction of drugs that the row names; of a sound one, of any."""
    found = review_answer(row["text"], context=row["context"]).report.findings
    own = [each for each in found if each.kind in {"interaction", "same ingredient"}]
    return [
        each
        for each in own
        if each.severity not in {"info", "minor"}
        and (row["kind"] == "fine" or names_pair(each, row["what"]))
    ]


def of_slips(row: dict[str, Any]) -> list[Finding]:
    found = review_answer(row["text"]).report.findings
    kinds = {"dose", "measurement", "same ingredient"}
    return [each for each in found if each.kind in kinds and each.severity not in {"info", "minor"}]


def test_slips_of_doses_units_and_values_are_found_and_odd_ones_that_are_right_pass() -> None:
    """At first 12 of 40 and 2 of 40; what is left are sums, conversions and normal ranges."""
    assert sum(bool(of_slips(row)) for row in rows_of("typed_errors.jsonl", "error")) >= 27
    assert sum(bool(of_slips(row)) for row in rows_of("typed_errors.jsonl", "right")) == 0


NAMES = {
    "temperature": "body temperature", "weight": "body weight", "height": "body height",
    "white cells": "white cell count", "CRP": "C-reactive protein",
}  # fmt: skip


def of_attribute(sentence: str, attribute: str) -> list[Measurement]:
    name = NAMES.get(attribute, attribute)
    return [each for each in find_measurements(sentence) if each.attribute == name]


def is_value(found: Measurement, value: str) -> bool:
    """Whether a number is the one of the row, as it is written or in another of its units."""
    known = quantity(found.attribute)
    units = [each for each in (known.unit, *known.other, "g/L") if known.has_unit(each)]
    wanted = [known.to_usual(Decimal(value), each) for each in units]
    is_written = value in re.findall(r"\d+(?:\.\d+)?", found.quote)
    return is_written or any(each in wanted for each in found.readings)


def test_values_are_found_for_their_names_and_the_newest_comes_last() -> None:
    """At first 109 of 152, of two more an older value alone; eight of ages were left out."""
    lines = (HERE / "typed_measurements.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    found = [(of_attribute(*row[:2]), row[2]) for row in rows]

    assert [own for own, value in found if own and not is_value(own[-1], value)] == []
    assert sum(bool(own) for own, _ in found) >= 138


def names_pair(found: Finding, pair: str) -> bool:
    names = re.match(r"(.+?)(?: and (.+?))? (?:must|should|need|is in)", found.message)
    assert names, found.message
    return all(each.lower() in pair.lower() for each in names.groups() if each)


def test_drugs_that_interact_are_found_and_what_is_warned_of_passes() -> None:
    """At first 46 of 60 and 3 of 59: a clause before a comma spoke for what stands behind it."""
    rows = partial(rows_of, "typed_interactions.jsonl")

    assert [row["text"] for row in rows("harmful") if not of_pairs(row)] == []
    assert [row["text"] for row in rows("fine") if of_pairs(row)] == []


def status_of(sentence: str, target: str) -> str:
    """How a sentence means some of its words, in one word."""
    reading, words = read(sentence), read(target).words
    starts = range(len(reading.words))
    first = next(at for at in starts if reading.words[at : at + len(words)] == words)
    context = context_of(reading, first, first + len(words))
    if context.negated:
        return "absent"
    if context.experiencer != "patient":
        return context.experiencer
    aspects = ("hypothetical", "historical", "possible")
    return next((each for each in aspects if getattr(context, each)), "present")


def test_how_words_are_meant_is_told() -> None:
    """At first 125 of 159; a negation was read the wrong way round in three."""
    lines = (HERE / "typed_contexts.tsv").read_text(encoding="utf-8").splitlines()

    rows = [line.split("\t") for line in lines]
    assert sum(status_of(*row[:2]) == row[2] for row in rows) >= 157


def of_summaries(row: dict[str, Any]) -> tuple[list[Judged], list[Unsupported]]:
    """Numbers and facts of a summary that its note does not hold, as the measure reads them."""
    note, summary = read(written_out(row["source"])), read(row["summary"])
    numbers = [each for each in judge_numbers(summary, note) if each.outcome != "kept"]
    facts = find_unsupported(find_facts(summary), find_facts(note))
    return numbers, add_flips(facts, find_flips(summary, note))


def test_one_fact_of_a_summary_that_its_note_does_not_hold_is_found() -> None:
    """At first 50 of 50, two of them by an age alone that was right (`28F`)."""
    assert sum(any(of_summaries(row)) for row in rows_of("typed_summaries.jsonl", "altered")) >= 48


def test_most_of_a_faithful_summary_of_a_note_in_shorthand_is_kept() -> None:
    """Of 230 numbers and 310 facts; at first 78 numbers and 88 facts seemed to be invented."""
    numbers, facts = count_unsupported("typed_summaries.jsonl")

    assert numbers <= 16
    assert facts <= 30


def test_a_note_of_hardly_anything_but_shorthand_is_read_in_part() -> None:
    """Of 359 numbers and 511 facts; at first 111 and 322 seemed to be invented."""
    numbers, facts = count_unsupported("typed_shorthand.jsonl")

    assert numbers <= 54
    assert facts <= 169


def test_notes_that_came_after_all_that_are_read_as_well_as_this() -> None:
    """Of 334 numbers and 428 facts of 40 faithful summaries."""
    numbers, facts = count_unsupported("typed_notes.jsonl")

    assert numbers <= 82
    assert facts <= 157


def test_the_words_that_are_wrong_are_those_that_are_found() -> None:
    """Of 20 altered summaries; one fact of each is wrong, in the words that `what` quotes."""
    found = 0
    for row in rows_of("typed_notes.jsonl", "altered"):
        begin = row["summary"].index(row["what"].split('"')[1])
        end = begin + len(row["what"].split('"')[1])
        places = [each.place for each in chain.from_iterable(of_summaries(row))]
        found += any(a < end and begin < b for a, b in places)

    assert found >= 17


def count_unsupported(name: str) -> tuple[int, int]:
    """Numbers and facts of faithful summaries that seem to be invented."""
    faithful = [of_summaries(row) for row in rows_of(name, "faithful")]
    return sum(len(numbers) for numbers, _ in faithful), sum(len(facts) for _, facts in faithful)
