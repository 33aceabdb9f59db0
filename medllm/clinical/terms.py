"""Medical terms in text: which stand there, and how much of it they are."""

import gzip
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

TERMS = Path(__file__).parent / "knowledge" / "terms.txt.gz"
MAX_WORDS = 3
"""Words of the longest term."""
MEDICAL_DENSITY = 0.02
"""Share of words in medical terms from which on a text counts as medical."""

WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORD.findall(text.lower())


@cache
def vocabulary() -> frozenset[str]:
    """Names of diseases, drugs and medical subjects; the file's head names their sources."""
    lines = gzip.decompress(TERMS.read_bytes()).decode().splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def find_terms(text: str, terms: Collection[str]) -> Iterator[str]:
    """The terms in a text, in order, the longest at each place; none overlap."""
    return (term for term, _, _ in _match(words_of(text), terms))


def locate_terms(text: str, terms: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """The same, each with where its first character stands and where its last one ends."""
    # a letter that is two in lower case would move all that follow it
    lowered = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    spans = [found.span() for found in WORD.finditer(lowered)]
    words = [lowered[begin:end] for begin, end in spans]
    for term, first, last in _match(words, terms):
        yield term, spans[first][0], spans[last][1]


def _match(words: Sequence[str], terms: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """Each term with the numbers of its first and its last word."""
    start = 0
    while start < len(words):
        for length in range(min(MAX_WORDS, len(words) - start), 0, -1):
            candidate = " ".join(words[start : start + length])
            if candidate in terms:
                yield candidate, start, start + length - 1
                start += length
                break
        else:
            start += 1


def term_density(text: str, found: Iterable[str]) -> float:
    """The share of a text's words that belong to the terms `found` in it; 0 for an empty text."""
    words = sum(len(term.split()) for term in found)
    return words / max(len(words_of(text)), 1)


def count_texts(found: Iterable[Iterable[str]]) -> Counter[str]:
    """In how many texts each term stands, of the terms found in each."""
    return Counter(term for terms in found for term in set(terms))
