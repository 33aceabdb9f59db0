"""The small grammar of generated texts: numbers and alternatives, slots, articles."""

import re
from collections.abc import Mapping, Sequence
from random import Random

_NUMBER = re.compile(r"\{(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)\}")
_ALTERNATIVES = re.compile(r"\{([^{}|]*(?:\|[^{}|]*)+)\}")
_SLOT = re.compile(r"\{(\w+)\}")
_AN = re.compile(r"\b([Aa])\(n\) (?=[aeiouAEIOU]|8|1[18]\b(?!\.)|L\d)")
_A = re.compile(r"\b([Aa])\(n\) ")


def say(rng: Random, phrasings: Sequence[str], slots: Mapping[str, str] | None = None) -> str:
    """One of the phrasings, filled in."""
    return fix_grammar(fill(draw(rng, rng.choice(phrasings)), slots or {}))


def draw(rng: Random, template: str) -> str:
    """The template with its ranges and alternatives decided."""

    def draw_number(match: re.Match[str]) -> str:
        low, high = match.groups()
        decimals = len(low.partition(".")[2])
        low_int, high_int = (round(float(bound) * 10**decimals) for bound in (low, high))
        return f"{rng.randint(low_int, high_int) / 10**decimals:.{decimals}f}"

    if "{" not in template:
        return template
    template = _NUMBER.sub(draw_number, template)
    return _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), template)


def fill(template: str, slots: Mapping[str, str]) -> str:
    """The template with its slots filled; `{Side}` is `{side}` with a capital letter."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        value = slots[name[0].lower() + name[1:]]
        return value[:1].upper() + value[1:] if name[0].isupper() else value

    return _SLOT.sub(fill, template) if "{" in template else template


def fix_grammar(sentence: str) -> str:
    """The sentence with the right articles and, unless it is an answer, a capital letter."""
    if "(n) " in sentence:
        sentence = _A.sub(r"\1 ", _AN.sub(r"\1n ", sentence))
    return sentence if sentence.startswith(("yes.", "no.")) else sentence[:1].upper() + sentence[1:]
