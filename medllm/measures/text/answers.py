"""Exact match and token F1 of a short answer, in SQuAD's normalisation, with numbers kept whole."""

import re
import unicodedata
from collections import Counter

from medllm.data.dedup import part_words

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = re.compile(
    r"(?<!\d)[.,:/](?!\d)|(?<=\d)[.,:/](?!\d)|(?<!\d)[,:/](?=\d)|(?<!\d)(?<=\w)\.(?=\d)"
    r"|(?<=\w)-(?=[^\W\d])|[^\w\s.,:/%<>=+-]|_"
)
"""What is left out: marks that belong to no number, no sign and no share."""
_FORMS = {0xFF01 + at: 0x21 + at for at in range(94)} | {0xB5: 0x3BC}
"""Full-width forms (`５００ｍｇ`) and the micro sign, as the characters that they stand for."""
_STOPS = frozenset("、。，；！？")
"""Marks of Chinese and Japanese, which no blank follows."""


def normalise(text: str) -> str:
    """The text in lower case, without articles, most marks and spare white space.

    That is SQuAD's normalisation (Rajpurkar et al. 2016, `evaluate-v1.1.py`) but for what would
    make other values alike: marks within numbers (1.5 is not 15, 120/80 not 12080), `%`, `<`, `>`,
    `=`, `+` and minus signs stay. So do vowel signs, which Python takes for no part of a word.
    """
    kept = _MARKS.sub(lambda mark: mark[0] if is_vowel(mark[0]) else "", composed(text))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def composed(text: str) -> str:
    """The text in lower case, with one form of each character."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", text.translate(_FORMS)).lower()


def is_vowel(character: str) -> bool:
    """Whether it is a vowel sign, of Hindi, Thai or Arabic; no selector of an emoji's form."""
    is_mark = unicodedata.category(character) in {"Mn", "Mc"}
    return is_mark and not "\ufe00" <= character <= "\ufe0f"


def is_exact(answer: str, reference: str) -> bool:
    """Whether both are the same but for case, articles and marks; an empty answer never is."""
    normal = normalise(answer)
    return bool(normal) and normal == normalise(reference)


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over the words that both have, as SQuAD's F1.

    Words of Chinese, Japanese, Thai and the like are single letters, as in CMRC's F1.
    """
    given, wanted = (part_words(normalise(text)).split() for text in (answer, reference))
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def written_whole(text: str, finish_reason: str) -> str:
    """What of an answer was written to its end: one that was cut may end within a number or name.

    Of a cut answer the last word is left out: `BP 12` may have become 120/80. Where no blanks part
    words, what comes after the last mark is.
    """
    if finish_reason != "length":
        return text
    ends = (at for at, each in enumerate(text) if each.isspace() or each in _STOPS)
    return text[: max(ends, default=0)]


def count_words(text: str) -> int:
    """How many words a text has; each letter of Chinese, Japanese, Thai and the like is one."""
    return len(part_words(text).split())


def repeated_share(text: str, run: int = 4) -> float:
    """The share of runs of so many words that stood in the text before; 0 where there are none."""
    words = part_words(text).lower().split()
    runs = [tuple(words[at : at + run]) for at in range(len(words) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
