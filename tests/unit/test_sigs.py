"""Sigs in text, on a list of prescriptions as people write them, and on any text at all."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sig_notation import decisive, reading_of, rows, sigs_of

from medllm.clinical.text.reading import read


@pytest.mark.parametrize(
    ("part", "least_precision", "least_recall"),
    [("built on", 1, 0.99), ("held out", 0.99, 0.99), ("added later", 1, 1)],
)
def test_prescriptions_are_read(part: str, least_precision: float, least_recall: float) -> None:
    right = read_ = wanted = whole = 0
    wrong = []
    for text, expected in rows(part):
        found = [reading_of(each) for each in sigs_of(text)]
        hits = [each for each in map(decisive, expected) if each in map(decisive, found)]
        right, read_, wanted = right + len(hits), read_ + len(found), wanted + len(expected)
        whole += set(found) == set(expected)
        if set(found) != set(expected):
            wrong.append(
                f"{text!r}\n  wanted {[*map(sorted, expected)]}\n  read {[*map(sorted, found)]}"
            )
    report = f"{part}: {whole}/{len(rows(part))} whole, "
    report += f"precision {right}/{read_}, recall {right}/{wanted}"
    lines = "\n".join(wrong)

    assert right / read_ >= least_precision, f"{report}\n{lines}"
    assert right / wanted >= least_recall, f"{report}\n{lines}"


EVERY = [text for part in ("built on", "held out") for text, _ in rows(part)]
OTHER_FORMS = {
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "upper case": str.upper,
    "lower case": str.lower,
    "line breaks": lambda text: text.replace(" ", "\n"),
    "spaces": lambda text: text.replace(" ", "  \t "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "full width": lambda text: text.translate({ord(d): ord(d) + 0xFEE0 for d in "0123456789"}),
    "a full stop": lambda text: text.removesuffix(".") + ".",
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_another_form_of_a_text_changes_nothing(form: str) -> None:
    changed = OTHER_FORMS[form]

    def meaning(text: str) -> list[frozenset[str]]:
        return [reading_of(each) for each in sigs_of(text)]

    texts = EVERY if form in ("upper case", "a full stop") else EVERY[::5]
    assert [each for each in texts if meaning(changed(each)) != meaning(each)] == []


def test_the_place_of_a_sig_is_its_words() -> None:
    text = "Bitte:\u2009 take  Tylenol ½ g every\n6 hours, then rest."
    (sig,) = sigs_of(text)

    begin, end = read(text).folded.origin(sig.begin, sig.end)

    assert text[begin:end].strip() == "½ g every\n6 hours"


words = st.sampled_from(
    ["paracetamol", "warfarin", "co-codamol", "500", "mg", "1", "g", "/", "-", "1-0-1", "every",
     "6", "hours", "q6h", "BD", "daily", ".", ",", "\n", "max", "then", "by", "to", "two", "x",
     "tablets", "30/500", "for", "days", "weekly", "%", "mL", "5", "½", "µg", "(", ")", "or"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(words, max_size=25).map(" ".join)))
def test_no_text_crashes_the_reader_and_every_place_is_in_it(text: str) -> None:
    reading = read(text)

    for sig in sigs_of(text):
        begin, end = reading.folded.origin(sig.begin, sig.end)
        assert 0 <= begin < end <= len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TMP-SMX 160/800 mg BID", {"trimethoprim": 160, "sulfamethoxazole": 800}),
        ("co-trimoxazole 800/160 mg BD", {"trimethoprim": 160, "sulfamethoxazole": 800}),
        ("co-codamol 30/500 one tablet", {"codeine": 30, "paracetamol": 500}),
        ("Percocet 10/325 one tablet", {"oxycodone": 10, "paracetamol": 325}),
        ("hydrocodone and acetaminophen 5/300 one tab", {"hydrocodone": 5, "paracetamol": 300}),
    ],
)
def test_each_strength_of_a_product_is_of_its_ingredient(
    text: str, expected: dict[str, int]
) -> None:
    (sig,) = sigs_of(text)

    assert {drug: dose.high for drug, dose in zip(sig.drugs, sig.doses, strict=True)} == expected
