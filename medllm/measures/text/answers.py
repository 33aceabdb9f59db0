"""Exact match and token F1 of a short answer, in SQuAD's normalisation, with numbers kept whole."""

import re
from collections import Counter

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = re.compile(
    r"(?<!\d)[.,:/](?!\d)|(?<=\d)[.,:/](?!\d)|(?<!\d)[,:/](?=\d)|(?<!\d)(?<=\w)\.(?=\d)"
    r"|(?<=\w)-(?=[^\W\d])|[^\w\s.,:/%<>=+-]|_"
)
"""What is left out: marks that belong to no number, no sign and no share."""


def normalise(text: str) -> str:
    """The text in lower case, without articles, most marks and spare white space.

    That is SQuAD's normalisation (Rajpurkar et al. 2016, `evaluate-v1.1.py`) but for what would
    make other values alike: marks within numbers (1.5 is not 15, 120/80 not 12080), `%`, `<`, `>`,
    `=`, `+` and minus signs stay.
    """
    return " ".join(_ARTICLES.sub(" ", _MARKS.sub("", text.lower())).split())


def is_exact(answer: str, reference: str) -> bool:
    """Whether both are the same but for case, articles and marks; an empty answer never is."""
    normal = normalise(answer)
    return bool(normal) and normal == normalise(reference)


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words that both have, as SQuAD's F1."""
    given, wanted = normalise(answer).split(), normalise(reference).split()
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def written_whole(text: str, finish_reason: str) -> str:
    """What of an answer was written to its end: one that was cut may end within a number or name.

    Of a cut answer the last word is left out: `BP 12` may have become 120/80.
    """
    if finish_reason != "length":
        return text
    return text[: max((at for at, each in enumerate(text) if each.isspace()), default=0)]


def repeated_share(text: str, run: int = 4) -> float:
    """The share of runs of so many words that stood in the text before; 0 where there are none."""
    words = text.lower().split()
    runs = [tuple(words[at : at + run]) for at in range(len(words) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
