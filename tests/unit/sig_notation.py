"""The list of prescriptions beside the tests, and what a reading of one is in its notation."""

import re
from decimal import Decimal
from functools import cache
from pathlib import Path

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
    "unit": "no unit",
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
