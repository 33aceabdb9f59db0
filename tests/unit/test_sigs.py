"""Sigs in text, on a list of prescriptions as people write them, and on any text at all."""

import re
import time
import unicodedata
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.clinical.doses.amounts import Range
from medllm.clinical.doses.products import products
from medllm.clinical.doses.sig import Sig
from medllm.clinical.doses.sigs import read_sigs
from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read

STRINGS = Path(__file__).with_name("sig_strings.txt")
ROUTES = {
    "po": "oral", "sl": "sublingual", "pr": "rectal", "inh": "inhaled", "neb": "nebulised",
    "top": "topical", "td": "transdermal", "it": "intrathecal",
}  # fmt: skip
UNITS = {"mcg": ("mg", Decimal("0.001")), "units": ("U", Decimal(1)), "tab": ("tablet", Decimal(1))}
PROBLEMS = {
    "zero": "no zero before the decimal point", "trailing": "a zero after the decimal point",
    "comma": "a comma as decimal point", "U": "U for units",
}  # fmt: skip
EXPECTED = re.compile(r"(?P<drug>[a-z ]+?(?:\+[a-z ]+?)*) (?=[\d=]|max|x\d|once|po|iv|sl)")
DECISIVE = ("drug", "dose", "daily", "often", "once", "max")
"""What a check of a dose rests on."""


def sigs_of(text: str) -> tuple[Sig, ...]:
    reading = read(text)
    mentions = find_drugs(reading, shipped_knowledge())
    return read_sigs(reading, products(reading, mentions))


@cache
def rows(part: str) -> list[tuple[str, list[frozenset[str]]]]:
    """Each prescription of a part of the list, with what is to be read in it."""
    lines = STRINGS.read_text(encoding="utf-8").split(f"== {part}\n")[1].split("\n== ")[0]
    found = []
    for line in lines.splitlines():
        text, _, expected = line.partition("\t")
        sigs = [] if expected == "-" else expected.split("; ")
        found.append((text, [expectation(each) for each in sigs]))
    return found


def expectation(written: str) -> frozenset[str]:
    match = EXPECTED.match(f"{written} ")
    assert match, written
    names = find_drugs(read(match["drug"]), shipped_knowledge(), is_list=True)
    said = {f"drug:{'+'.join(sorted(each for name in names for each in name.drugs))}"}
    words = written[match.end() :].split()
    while words:
        word = words.pop(0)
        if word == "max":
            value, unit = words.pop(0), words.pop(0)
            said.add(f"max:{amount(value, unit.removesuffix('/d'))}{' day' * unit.endswith('/d')}")
        elif re.fullmatch(r"\d+d", word):
            said.add(f"days:{word[:-1]}")
        elif word[0] in "=0123456789":
            kind, unit = ("daily" if word[0] == "=" else "dose"), words.pop(0)
            said.add(f"{kind}:{amount(word.lstrip('='), re.sub('/d$', '', unit))}")
        elif word[0] == "!":
            said.add(f"problem:{PROBLEMS[word[1:]]}")
        elif word[0] == "x":
            said.add(f"often:{word[1:]}")
        else:
            said.add(word if word in ("once", "prn", "load") else f"route:{ROUTES.get(word, word)}")
    return frozenset(said)


def amount(written: str, unit: str) -> str:
    first, *below = unit.split("/")
    unit, factor = UNITS.get(first, (first, Decimal(1)))
    lows, _, highs = written.partition("..")
    spans = [
        Range(Decimal(low) * factor, Decimal(high) * factor)
        for low, high in zip(lows.split("+"), (highs or lows).split("+"), strict=True)
    ]
    return f"{ranges(spans)} {'/'.join([unit, *below])}"


def ranges(found: list[Range] | tuple[Range, ...]) -> str:
    written = [(plain(each.low), plain(each.high)) for each in found]
    return "+".join(sorted(low if low == high else f"{low}..{high}" for low, high in written))


def plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def reading_of(sig: Sig) -> frozenset[str]:
    said = {f"drug:{'+'.join(sorted(sig.drugs))}"}
    said |= {f"dose:{ranges(sig.doses)} {sig.unit}"} if sig.doses else set()
    said |= {f"daily:{ranges(sig.daily)} {sig.unit}"} if sig.daily else set()
    if sig.often:
        days = "" if sig.often.days == 1 else f"/{plain(sig.often.days)}d"
        said.add(f"often:{plain(sig.often.times)}{days}")
    if sig.limit:
        day = " day" if sig.limit.per == "day" else ""
        said.add(f"max:{plain(sig.limit.value)} {sig.limit.unit}{day}")
    said |= {f"days:{plain(sig.days)}"} if sig.days else set()
    said |= {f"route:{sig.route}"} if sig.route else set()
    said |= {f"problem:{sig.problem}"} if sig.problem else set()
    flags = {"once": sig.is_once, "prn": sig.as_needed, "load": sig.is_loading}
    return frozenset(said | {name for name, is_so in flags.items() if is_so})


def decisive(said: frozenset[str]) -> frozenset[str]:
    return frozenset(each for each in said if each.split(":")[0] in DECISIVE)


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
    "unit", ["paracetamol 500 mg every 4 to 6 hours ", "1-", "5/", "x 3 ", "one or two ", "500 mg-"]
)
def test_the_time_is_linear(unit: str) -> None:
    def seconds(size: int) -> float:
        text = "Take warfarin " + unit * (size // len(unit))
        best = 9.0
        for _ in range(3):
            begin = time.process_time()
            sigs_of(text)
            best = min(best, time.process_time() - begin)
        return best

    assert seconds(20_000) <= max(2.5 * seconds(10_000), 0.02)


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
