"""How words are meant, on a list of sentences and on any text at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from script_files import script

from medllm.clinical.context import Context, context_of
from medllm.clinical.context.cues import ASPECTS
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read

LIST = script("benchmarks/clinical_context")
PIECES = [
    "no", "denies", "fever", "chest", "pain", "but", "if", "mother", "left", "the", "in", "?",
    "No.", ",", ":", "(-)", "had", "history of", "\n- ", "ruled out", "5 years ago",
]  # fmt: skip


def context(sentence: str) -> Context:
    """The context of the words in brackets."""
    before, words, after = sentence.replace("]", "[").split("[")
    reading = read(before + words + after)
    first = len(read(before).words)
    return context_of(reading, first, first + len(words.split()))


@pytest.mark.parametrize(("part", "least_right"), [("built on", 0.97), ("held out", 0.95)])
def test_the_sentences_of_the_list_are_read(part: str, least_right: float) -> None:
    right, wrong = 0, []
    for sentence, wanted in LIST.cases(part):
        for want, got in zip(wanted, LIST.contexts(sentence), strict=True):
            right += want == got
            wrong += [] if want == got else [f"{sentence}: {got}"]
    assert right + len(wrong) > 200
    assert right / (right + len(wrong)) >= least_right, "\n".join(wrong)


def test_nothing_around_a_word_means_that_it_is_present() -> None:
    assert context("He has [fever].") == Context()
    assert Context().is_present
    assert not context("He has no [fever].").is_present
    assert not context("Her mother had a [stroke].").is_present
    assert not context("If you get a [rash], stop.").is_present
    assert context("Possible [pneumonia].").is_present


def test_a_denial_ends_where_the_next_finding_begins() -> None:
    assert context("No fever, chills or [cough].").negated
    assert not context("No fever, but [cough].").negated
    assert not context("No fever. [Cough] at night.").negated
    assert not context("Fever: no, [cough]: yes.").negated
    assert not context("Fever: no\n[cough]: yes").negated


def test_a_shorter_cue_in_a_longer_phrase_is_none() -> None:
    assert not context("No increase in the [effusion].").negated
    assert not context("Not only [fever] but rigors.").negated
    assert not context("A two-day history of [vomiting].").historical
    assert context("He has [chest pain] right now.").laterality is None


@pytest.mark.parametrize(
    "sentence",
    [
        "Without warning I got [chest pain].", "I never had [pain] like this before.",
        "I have never had such a bad [headache].", "There's no way this is only [reflux].",
        "It is not just a [headache].", "I do not know what to do about the [bleeding].",
    ],
)  # fmt: skip
def test_what_only_sounds_like_a_denial_is_none(sentence: str) -> None:
    assert not context(sentence).negated


def test_a_heading_holds_for_the_items_below_it() -> None:
    history = "Family history:\n- diabetes\n- [stroke]\n\nShe has a cough."
    assert context(history) == Context(historical=True, experiencer="family")
    assert context("Family history:\n- stroke\n\nShe has a [cough].") == Context()
    assert context("Call 911 if you have:\n* fainting\n* [chest pain]").hypothetical
    assert context("She denies:\n1. cough\n2. [fever]").negated
    assert context("You have:\n- [asthma]") == Context()


def test_risks_are_not_denied_by_not_limited_to() -> None:
    assert context("Risks include but are not limited to bleeding and [infection].") == Context(
        hypothetical=True
    )


@pytest.mark.parametrize(
    "form", ["NO [FEVER].", "no\n[fever]", "No\u00a0[fever]", "no   [fever]", "N\u200bo [fever]"]
)
def test_case_breaks_and_unicode_forms_change_nothing(form: str) -> None:
    assert context(form) == Context(negated=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join))
def test_no_text_crashes_it(text: str) -> None:
    reading = read(text)
    for first in range(len(reading.words)):
        found = context_of(reading, first, min(first + 2, len(reading.words)))
        assert found == context_of(reading, first, min(first + 2, len(reading.words)))
        assert found.experiencer in {"patient", "family", "other"}


def test_every_aspect_has_cues_that_are_words() -> None:
    rows = [*shipped_knowledge().rows("cues")]

    assert {each for row in rows for each in row.get("aspects", ())} == {*ASPECTS}
    assert all(read(phrase).words for row in rows for phrase in row["phrases"])
