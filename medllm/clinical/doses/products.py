"""Products of several ingredients: names that belong together, and which number is whose."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.doses.amounts import Range
from medllm.clinical.doses.elements import Mention
from medllm.clinical.text.reading import Reading

_JOINED = re.compile(r" ?[-/+] ?")
_AND = re.compile(r" ?(?:and|with|plus|&) ")
_PARTS = re.compile(r" (?:tablets? |capsules? )?\d+(?:\.\d+)?(?: ?mg)? ?[/-] ?\d+(?:\.\d+)?")
_SHORT = {"tmp": "trimethoprim", "smx": "sulfamethoxazole", "smz": "sulfamethoxazole"}
_ANALGESIC = "paracetamol"
_LEAST_ANALGESIC, _MOST_OPIOID = Decimal(300), Decimal(100)


@dataclass(frozen=True, slots=True)
class Product:
    """Drugs that a text names as one."""

    drugs: tuple[str, ...]
    first: int
    last: int


def products(reading: Reading, mentions: Sequence[Mention]) -> list[Mention]:
    """The mentions of drugs; `hydrocodone-acetaminophen` as the one product that it is.

    Names joined by "and" are one product only where the strengths of both stand behind them, as in
    "hydrocodone and acetaminophen 5/325".
    """
    joined: list[Mention] = []
    text = reading.folded.text
    for mention in mentions:
        before = joined[-1] if joined else None
        if mention.drugs and before and _is_one(reading, text, before, mention):
            drugs = before.drugs + tuple(each for each in mention.drugs if each not in before.drugs)
            joined[-1] = Product(drugs, before.first, mention.last)
        elif len(mention.drugs) > 1:
            joined.append(_as_written(reading, mention))
        elif mention.drugs:
            joined.append(mention)
    return joined


def _as_written(reading: Reading, mention: Mention) -> Mention:
    """A product with its drugs as the text names them: trimethoprim first in `TMP-SMX`."""
    words = [_SHORT.get(each, each) for each in reading.words[mention.first : mention.last]]
    places = [words.index(each) if each in words else len(words) for each in mention.drugs]
    if places == sorted(places) or len(words) in places[1:]:
        return mention
    drugs = tuple(drug for _, drug in sorted(zip(places, mention.drugs, strict=True)))
    return Product(drugs, mention.first, mention.last)


def _is_one(reading: Reading, text: str, before: Mention, mention: Mention) -> bool:
    begin, end = reading.ends[before.last - 1], reading.begins[mention.first]
    if _JOINED.fullmatch(text, begin, end):
        return True
    behind = reading.ends[mention.last - 1]
    return bool(_AND.fullmatch(text, begin, end) and _PARTS.match(text, behind))


def in_order(drugs: Sequence[str], values: tuple[Range, ...]) -> tuple[Range, ...]:
    """The parts of `8/500` in the order of the drugs: beside an opioid, paracetamol has the most.

    No tablet holds less than 300 mg of it with 100 mg or more of an opioid.
    """
    if _ANALGESIC not in drugs or len(values) != len(drugs):
        return values
    most = max(values, key=lambda each: each.high)
    others = [each for each in values if each is not most]
    if most.high < _LEAST_ANALGESIC or any(each.high >= _MOST_OPIOID for each in others):
        return values
    at = list(drugs).index(_ANALGESIC)
    return (*others[:at], most, *others[at:])
