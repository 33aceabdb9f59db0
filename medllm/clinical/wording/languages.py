"""Whether a text is in English, which is what the rules are about."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding, NotChecked
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Table
from medllm.clinical.text.reading import Reading

LANGUAGES = Table(
    name="languages",
    columns=frozenset({"words"}),
    needed=frozenset({"words"}),
    lists=frozenset({"words"}),
)
UNREAD = "language: the answer is in another language"
"""How it begins what is told of an answer that is not in English, or hardly."""
_ENGLISH = "english"
_WEAK = "weak"
_MOSTLY = 0.5
_LEAST_WORDS = 4
"""Words of another language, from which on a text is not all in English: fewer may be a name. Of a
text of less than 16 words a quarter is enough; numbers are no words."""
_LEAST_LETTERS = 4
"""The same in letters of another script, of which Chinese needs few."""
_SHORT_WORDS = 6
_NAMES = {"Cjk": "Chinese", "Hiragana": "Japanese", "Katakana": "Japanese", "Hangul": "Korean"}
_GREEK_WORD = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]{3,}")
"""Greek letters alone stand in English texts, too."""
_LATIN = frozenset(
    {
        "LATIN", "GREEK", "MICRO", "OHM", "KELVIN", "ANGSTROM", "MASCULINE", "FEMININE",
        "FULLWIDTH", "MODIFIER", "SUPERSCRIPT", "DOUBLE-STRUCK", "MATHEMATICAL",
    }
)  # fmt: skip
"""How the names of characters begin that stand in English texts, too: `µg`, `β-blocker`."""


def find_languages(case: Case) -> Iterator[Finding | NotChecked]:
    """Says of the answer, and of the question, that it is not in English or not all of it."""
    for name, reading in (("answer", case.answer), ("question", case.question)):
        languages, share = foreign_share(reading, case.knowledge)
        if share:
            part = "" if share >= _MOSTLY else "part of "
            what = f"{part}the {name} is in another language than English"
            yield NotChecked("language", f"{what} ({', '.join(languages)})")


def foreign_share(reading: Reading, knowledge: Knowledge) -> tuple[list[str], float]:
    """The languages or scripts of a text beside English, and about how much of it they are.

    Sentences are told by their small words, scripts by their letters. The share is 0 for what may
    be a name or a quoted word.
    """
    scripts = Counter[str]() if reading.text.isascii() else _count_scripts(reading.text)
    words = _count_words(reading, knowledge)
    letters, share = sum(scripts.values()), 0.0
    if letters >= _LEAST_LETTERS:
        share = letters / max(sum(map(len, reading.words)), 1)
    if not words:
        return [*scripts], share
    told = max(sum(not word[0].isdigit() for word in reading.words), 1)
    if (count := sum(words.values())) >= min(_LEAST_WORDS, max(2, told // 4), told):
        share += count / told
        return [*dict.fromkeys([*words, *scripts])], share
    return [*scripts], share


def _count_scripts(text: str) -> Counter[str]:
    scripts = map(_script, (each for each in text if each > "\u024f"))
    greek = sum(map(len, _GREEK_WORD.findall(text)))
    counts = Counter(script for script in scripts if script) + Counter(Greek=greek)
    if counts["Japanese"]:
        counts["Japanese"] += counts.pop("Chinese", 0)
    return counts


@cache
def _script(character: str) -> str:
    """The script of a letter that is not Latin, as in `Cyrillic`; nothing for other characters."""
    if not character.isalpha():
        return ""
    script = unicodedata.name(character, "").split(" ")[0]
    name = script.split("-")[0].capitalize()
    return "" if script in _LATIN else _NAMES.get(name, name)


def _count_words(reading: Reading, knowledge: Knowledge) -> Counter[str]:
    """How many words stand in sentences of each language but English."""
    small = knowledge.built(_build_small_words)
    counts = Counter[str]()
    if small.strong.isdisjoint(reading.words):
        return counts
    for first, last in reading.sentences:
        words = [word for word in reading.words[first:last] if not word[0].isdigit()]
        if small.strong.isdisjoint(words):
            continue
        seen = Counter(each for word in words for each in small.languages.get(word, ()))
        strong = {
            each for word in small.strong.intersection(words) for each in small.languages[word]
        }
        english = seen[_ENGLISH]
        most, language = max((seen[each], each) for each in strong)
        is_short = len(words) <= _SHORT_WORDS and not english
        if most > english and (most > 1 or is_short):
            counts[language.capitalize()] += len(words)
    return counts


@dataclass(frozen=True, slots=True)
class _SmallWords:
    """The languages of each small word; the words of other languages that are in no name."""

    languages: dict[str, list[str]]
    strong: frozenset[str]


def _build_small_words(knowledge: Knowledge) -> _SmallWords:
    languages: dict[str, list[str]] = {}
    weak: set[str] = set()
    for row in knowledge.rows(LANGUAGES.name):
        if row["id"] in (_WEAK, _ENGLISH):
            weak |= set(row["words"])
        for word in row["words"] if row["id"] != _WEAK else ():
            languages.setdefault(word, []).append(row["id"])
    return _SmallWords(languages, frozenset(languages) - weak)
