"""Words that are known, and the known name that is nearest to another word."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from medllm.clinical.drugs.names import build_drug_names
from medllm.clinical.entities.vocabulary import read_vocabulary
from medllm.clinical.entities.words import normal
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.terms import vocabulary
from medllm.clinical.wording.letters import distance

_LONG_LETTERS = 9
"""Letters from which on two may differ, and not one alone."""
_LEAST_LETTERS = 7
"""Letters of a name of a drug that is known in spite of a wrong one, wherever it stands."""


@dataclass(frozen=True, slots=True)
class Names:
    """The words of all names, and the names of one word by kind, first letter and length."""

    words: frozenset[str]
    in_order: list[str]
    by_form: Mapping[tuple[bool, str, int], list[tuple[str, int]]]


@cache
def medical_names() -> Names:
    """Those of the entities that ship, made at the first call."""
    by_form = defaultdict[tuple[bool, str, int], list[tuple[str, int]]](list)
    words: set[str] = set()
    for name, meaning in read_vocabulary().names.items():
        if " " in name:
            words.update(name.split(" "))
        else:
            words.add(name)
            form = meaning.startswith("drug"), name[0], len(name)
            by_form[form].append((name, _letters(name)))
    return Names(frozenset(words), sorted(words), by_form)


def nearest_name(word: str, *, is_drug: bool) -> str | None:
    """The name of one word, of a drug or of anything else, that is near a word in normal form."""
    most = 2 if len(word) >= _LONG_LETTERS else 1
    letters, by_form = _letters(word), medical_names().by_form
    near: list[tuple[int, str]] = []
    for length in range(len(word) - most, len(word) + most + 1):
        for name, others in by_form.get((is_drug, word[0], length), ()):
            if (letters ^ others).bit_count() <= 2 * most:
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
    """Whether a word is in one of the vocabularies; the larger ones are read when they must be."""
    if word in vocabulary() or word in knowledge.built(_build_drug_words):
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
        self._ends = frozenset(name[-3:] for name in names)

    def nearest(self, word: str) -> str | None:
        """The ingredient that a word is, but for one letter that is missing, wrong or exchanged."""
        if word[:4] not in self._starts and word[-3:] not in self._ends:  # most words end here
            return None
        if len(word) < _LEAST_LETTERS - 1:
            return None
        near = {self._names[part] for part in _shortened(word) if part in self._names}
        return min((name for name in near if distance(word, name, 1)), default=None)


def _shortened(word: str) -> list[str]:
    """The word, and the word without each of its letters but the first."""
    return [word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))]
