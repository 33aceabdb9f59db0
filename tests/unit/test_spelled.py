"""Numbers that are spelled out, and letters of another script within a word."""

import pytest

from medllm.clinical import review_answer
from medllm.clinical.text.folding import fold


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Five Thousand milligrams", "5000 milligrams"),
        ("two hundred and fifty mg", "250 mg"),
        ("twenty-five\nmg", "25 mg"),
        ("a hundred units", "100 units"),
        ("a five hundred mg tablet", "a 500 mg tablet"),
        ("one and a half grams", "1.5 grams"),
        ("half a gram", "0.5 gram"),
        ("zero point five mg", "0.5 mg"),
        ("fifteen hundred mg", "1500 mg"),
        ("one hundred thousand units", "100000 units"),
        ("ten thousand five hundred and six units", "10506 units"),
        ("ten to twenty tablets", "ten to 20 tablets"),
        ("five mg", "five mg"),
        ("two one mg, half of it", "two one mg, half of it"),
        ("one hundred two hundred mg", "one hundred two hundred mg"),
        ("hundreds of mg, twenty people", "hundreds of mg, twenty people"),
        ("Ⅷ µg and twenty µg – ten", "viii ug and 20 ug - ten"),
        ("раracetamol OХycodone Парацетамол на mg", "paracetamol oxycodone парацетамол на mg"),
    ],
)
def test_folding(written: str, read: str) -> None:
    assert fold(written).text == read


def test_offsets_quote_what_was_written() -> None:
    text = "½ of it – Two  Hundred\nmg, then twenty mg"
    folded = fold(text)
    places = {word: folded.text.index(word) for word in ("200", "20 mg", "then", "mg, then")}
    quoted = {word: text[slice(*folded.origin(at, at + len(word)))] for word, at in places.items()}
    assert quoted == {
        "200": "Two  Hundred", "20 mg": "twenty mg", "then": "then", "mg, then": "mg, then",
    }  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        "Take five thousand milligrams of paracetamol daily.",
        "Take twenty tablets of paracetamol 500 mg a day.",
        "Take one and a half grams of paracetamol every four hours.",
        "Take \u0440\u0430racetamol 5000 mg daily.",
    ],
)
def test_a_dose_in_words_is_a_dose(answer: str) -> None:
    (found,) = review_answer(answer).report.findings
    assert (found.kind, found.severity) == ("dose", "contraindicated")
