"""Words that are known, and the known name that is nearest to another word."""

import gzip
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from medllm.clinical.drugs.names import build_drug_names
from medllm.clinical.entities.words import normal
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.wording.letters import distance

KNOWN_WORDS = Path(__file__).parents[1] / "knowledge" / "known_words.txt.gz"
"""The words of the entities and of the terms; `scripts/build_entities.py` makes it."""
_LONG_LETTERS = 9
"""Letters from which on two may differ, and not one alone."""
_LEAST_LETTERS = 7
"""Letters of a name of a drug that is known in spite of a wrong one, wherever it stands."""


@dataclass(frozen=True, slots=True)
class Names:
    """The words of all names in normal form, and the names of one word, of drugs and of others."""

    words: frozenset[str]
    in_order: list[str]
    drugs: tuple[str, ...]
    others: tuple[str, ...]


@cache
def medical_names() -> Names:
    """Those that ship, read at the first call."""
    text = gzip.decompress(KNOWN_WORDS.read_bytes()).decode()
    drugs, others, further = (line.split() for line in text.splitlines() if line[0] != "#")
    words = [*drugs, *others, *further]
    return Names(frozenset(words), sorted(words), tuple(drugs), tuple(others))


@lru_cache(maxsize=64)
def _names_with(letter: str, *, is_drug: bool) -> tuple[tuple[str, int], ...]:
    """The names of one word that begin with a letter, each with the set of its letters."""
    names = medical_names().drugs if is_drug else medical_names().others
    return tuple((name, _letters(name)) for name in names if name.startswith(letter))


def nearest_name(word: str, *, is_drug: bool) -> str | None:
    """The name of one word, of a drug or of anything else, that is near a word in normal form."""
    most = 2 if len(word) >= _LONG_LETTERS else 1
    letters = _letters(word)
    near: list[tuple[int, str]] = []
    for name, others in _names_with(word[0], is_drug=is_drug):
        if abs(len(name) - len(word)) <= most and (letters ^ others).bit_count() <= 2 * most:
            apart = distance(word, name, most)
            near += [] if apart is None else [(apart, name)]
    return min(near)[1] if near else None


def _letters(word: str) -> int:
    """The set of the letters of a word."""
    letters = 0
    for letter in word:
        letters |= 1 << (ord(letter) & 31)
    return letters


def is_known(word: str, knowledge: Knowledge) -> bool:
    """Whether a word is in one of the vocabularies."""
    if word in knowledge.built(_build_drug_words):
        return True
    return normal(word) in medical_names().words


def _build_drug_words(knowledge: Knowledge) -> frozenset[str]:
    return knowledge.built(build_drug_names).phrases.words


class DrugSpellings:
    """The ingredients of the rules, by their spellings with one letter wrong."""

    def __init__(self, knowledge: Knowledge) -> None:
        names = [
            name.lower()
            for row in knowledge.rows("drugs")
            for name in (row["id"], *row.get("names", ()))
            if len(name) >= _LEAST_LETTERS and name.isalpha()
        ]
        self._names = {part: name for name in reversed(names) for part in _shortened(name)}
        self._starts = frozenset(name[:4] for name in names)
        self._ends = frozenset(name[-4:] for name in names)
        self._short_ends = frozenset(name[-3:] for name in names if len(name) <= _LONG_LETTERS)

    def nearest(self, word: str) -> str | None:
        """The ingredient that a word is, but for one letter that is missing, wrong or exchanged."""
        if not self._may_be(word):  # most words end here
            return None
        near = {self._names[part] for part in _shortened(word) if part in self._names}
        return min((name for name in near if distance(word, name, 1)), default=None)

    def _may_be(self, word: str) -> bool:
        """Whether a half of the word is as in a name: one wrong letter leaves the other one."""
        if len(word) < _LEAST_LETTERS - 1:
            return False
        if word[:4] in self._starts or word[-4:] in self._ends:
            return True
        return len(word) <= _LONG_LETTERS and word[-3:] in self._short_ends


def _shortened(word: str) -> list[str]:
    """The word, and the word without each of its letters but the first."""
    return [word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))]
