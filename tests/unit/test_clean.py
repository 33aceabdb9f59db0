"""Cleaning: what it fixes, and what it never touches."""

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medllm.data.clean import (
    TEXT_STEPS,
    WINDOWS_1252,
    CleanConfig,
    clean,
    guess_language,
    parse_time,
    why_poor,
)
from medllm.data.example import Example, Message

NEGATIONS = re.compile(r"\b(?:no|not|none|never|without|denies|denied|negative|nor|cannot)\b", re.I)
PHRASES = st.sampled_from(
    [
        "no",
        "not",
        "No",
        "without",
        "denies",
        "5 mg",
        "2.5",
        "10²",
        "½",
        "µg",
        "1\x002",
        "<0.5",
        "120/80",
        "-3",
        "+",
        "___",
        "[**2101-3-4**]",
        "Name:",
        "Service: ___",
        "Unit No: ___",
        "summarize:",
        "Admission Date:  ___ ",
        "\r\n",
        "\n",
        "\n\n\n",
        "\t",
        "    ",
        "\u200b",
        "\ufeff",
        "\u2028",
        "é",
        "é",
        "Å",
        "\x85",
        "The",
        "of",
        "Metoprolol 25 mg PO BID",
    ]
)
LETTERS_OF_WINDOWS = "".join(
    c for c in map(chr, range(0x80, 0xA0)) if WINDOWS_1252.get(ord(c), " ").isalpha()
)
CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters=LETTERS_OF_WINDOWS)
TEXTS = st.lists(PHRASES | st.text(CHARACTERS, max_size=6), max_size=25).map(" ".join) | st.lists(
    PHRASES | CHARACTERS, max_size=25
).map("".join)


def row(text: str, answer: str = "an answer", **metadata: object) -> Example:
    return Example("d/1", "d", "1", (Message("user", text),), answer, metadata=dict(metadata))


def cleaned(text: str, **settings: object) -> str:
    result, _ = clean(row(text), CleanConfig.model_validate(settings), Counter())
    return result.prompt[0].content


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("Name: ___ Unit No: ___\n5 mg")
@example("no\u200bpain 1\x002")
@example("10\u200b0 mg 1\u2060\ufeff2 0\u200b.5 can\x92t 5\x9610")
def test_every_number_and_every_negation_survives_every_default_step(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    result, trail = clean(row(text, text), CleanConfig(), Counter())

    assert {step for step, _ in trail} == {"raw", *TEXT_STEPS}
    for _, texts in trail:
        for after in texts:
            assert re.findall(r"\d+", after) == re.findall(r"\d+", text)
            assert NEGATIONS.findall(unicodedata.normalize("NFC", after)) == (
                NEGATIONS.findall(composed)
            )
    assert result.completion == trail[-1][1][-1]


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_no_word_changes_and_none_is_lost_but_the_header(text: str) -> None:
    steps = {"steps": ("unicode", "control", "whitespace")}
    composed = unicodedata.normalize("NFC", text)

    assert re.findall(r"\w+", cleaned(text, **steps)) == re.findall(r"\w+", composed)
    body = "The patient takes 5 mg.\n" + text
    assert cleaned(body).split()[:5] == ["The", "patient", "takes", "5", "mg."]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = cleaned(text, steps=("unicode", "control", "whitespace"))

    assert cleaned(once, steps=("unicode", "control", "whitespace")) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BP\u00a0120/80 \r\n\r\n\r\n\r\nHR 70\t bpm  ", "BP 120/80\n\nHR 70  bpm"),
        ("Na      138\n  K  4.2", "Na  138\n  K  4.2"),
        ("1\x00mg\x07", "1 mg"),
        ("summarize:\nName:  ___\nAdmission Date: ___  Discharge Date: ___\n \nPain.", "Pain."),
        ("Name: Smith\nPain.", "Name: Smith\nPain."),
        ("Admission Date: [**2101-3-4**]\nPain.", "Admission Date: [**2101-3-4**]\nPain."),
        ("summarize:", "summarize:"),
        ("e\u0301 10²", "é 10²"),
        ("5\x9610 mg, can\x92t swallow, \x9cd\u00e8me, 3\x89", "5–10 mg, can’t swallow, œdème, 3‰"),
        ("no\u200bpain 5\ufeffmg", "no pain 5 mg"),
        ("1\u200b2 10\ufeff0 0\u2060.5", "1\u200b2 10\ufeff0 0\u2060.5"),
        ("1\u20282 mg 1\x852", "1\n2 mg 1\n2"),
        ("1\x1f2 mg", "1 2 mg"),
    ],
)
def test_what_the_steps_do(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_placeholders_are_kept_or_masked_or_a_reason() -> None:
    text = "Mr. ___ saw Dr. [**Last Name**] on ____"
    counts: Counter[str] = Counter()
    drop = CleanConfig(placeholders="drop")

    assert cleaned(text) == text
    assert cleaned(text, placeholders="mask") == ("Mr. [REDACTED] saw Dr. [REDACTED] on [REDACTED]")
    assert why_poor(text, 6, "x", drop, counts) == "too many placeholders"
    assert why_poor("long " * 30 + text, 36, "x", drop, counts) is None
    assert counts["placeholders"] == 6
    assert cleaned("No XXXXX.", placeholders="mask", marks=("XXXX",)) == "No [REDACTED]."


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("word", "x", "near-empty"),
        ("a question", " ", "near-empty"),
        ("a question", "___", "near-empty"),
        ("a question", "no", None),
    ],
)
def test_near_empty_rows_have_a_reason(text: str, answer: str, reason: str | None) -> None:
    assert why_poor(text, len(text.split()), answer, CleanConfig(), Counter()) == reason


def test_a_language_that_nobody_tells_is_refused() -> None:
    with pytest.raises(ValueError, match="Input should be 'en', 'de'"):
        CleanConfig.model_validate_json('{"languages": ["english"]}')


def test_only_a_certain_guess_of_another_language_is_a_reason() -> None:
    english = re.findall(r"\S+", "the patient was admitted with pain and is not on treatment")
    german = re.findall(r"\S+", "der Patient wurde mit Schmerzen in die Klinik gebracht und ist da")
    short = re.findall(r"\S+", "BP 120/80 HR 70 pt c/o SOB")
    config = CleanConfig(languages=("en",))

    assert [guess_language(words) for words in (english, german, short)] == ["en", "de", "unknown"]
    russian = ["Больной", "поступил", "с", "болью,", "BP", "120/80,", "назначен", "метформин"]
    assert guess_language(russian) == guess_language(["患者は頭痛を訴えている"]) == "another script"
    reasons = [why_poor(" ".join(w), 9, "x", config, Counter()) for w in (english, german, short)]
    assert reasons == [None, "in another language (de)", None]


def test_timestamps_are_typed_and_what_is_no_time_stays() -> None:
    counts: Counter[str] = Counter()
    note = row(
        "a",
        charttime="2180-05-06 22:15:00",
        storetime="03/04/2020",
        age="40",
        runtime=7,
        bleeding_time=1430,
    )

    result, _ = clean(note, CleanConfig(), counts)

    assert result.metadata["charttime"] == "2180-05-06T22:15:00"
    assert {**result.metadata, "charttime": ""} == {**note.metadata, "charttime": ""}
    assert (counts["timestamps"], counts["unreadable timestamps"]) == (2, 2)
    assert str(parse_time("2015")) == "2015-01-01"
