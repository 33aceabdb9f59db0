"""What people write, found by what they mean: concepts, and patterns of concepts near each other.

Lay people have many words for one thing, and any order of them. A *concept* is a list of words and
phrases for one thing; a *pattern* is groups of alternatives, one of each of which must stand
within a few words, in any order: `@face + droop|crooked`. Words are compared by their stems, and
small words (`my`, `is`, `the`) do not count, so that "his face has dropped" and "face dropping"
are one.
"""

import re
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, Span

IGNORED = "ignored"
"""The concept of phrases whose words mean something else alone: `blood pressure` is no blood."""
MISSPELT = "misspelt"
"""The concept of words as they are mistyped, each with the right one: `siezure=seizure`."""
WINDOW = 12
"""Content words that a pattern may be spread over (a convention of this project)."""
_SMALL = (
    "a an the my his her hers their your our its is are am was were be been being has have "
    "had he she they i it we you me him them this that these those to and or really very so "
    "quite rather some then there here with at in on from i'm he's she's it's they're i've "
    "he'd she'd there's that's im ive even still now also already please hello hi um uh oh "
    "which who hes shes theyre theyve weve youre youve theres thats "
)
_FILLERS = frozenset(_SMALL.split())
_VERBS = "is are was were do does did has have had ca could would should must need ai might wo"
_TYPED = {f"{verb}nt": f"{verb}n't" for verb in _VERBS.split()}
"""Negations as they are typed without their apostrophe: `wont` is `won't`."""
_WHOLE = {"stabbed": "stabbed", "severed": "severed", "hives": "hives", "note": "note"}
_WHOLE |= {"noted": "note", "notes": "note", "downed": "downed", "knifed": "knifed"}
"""Words whose stem is that of something else: a stabbing pain is no stabbing."""
_WHOLE |= _TYPED
_ENDINGS = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""))
_PUNCTUATION = re.compile(r"[,;:.!?()]")
TRIED = 5
"""Nearest places of a group that are tried, so that a repetitive text takes no longer."""
Hits = Mapping[str, Sequence[Span]]
"""Where each concept stands, in content words."""


@lru_cache(maxsize=1 << 15)
def stem(word: str) -> str:
    """A word without its ending: `breathing`, `breathes` and `breath` are one."""
    word = word.removesuffix("'s")
    if len(word) <= 3 or word in _WHOLE:
        return _WHOLE.get(word, word)
    for ending, kept in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: len(word) - len(ending)] + kept
            break
    if len(word) > 3:
        word = word.removesuffix("e")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


@dataclass(frozen=True, slots=True)
class Content:
    """The words of a text that count, as stems, and which words of its reading they are.

    `marks` is where punctuation stands, so that a phrase can be kept in one part of a sentence.
    """

    stems: list[str]
    words: list[int]
    begins: list[int]
    """Where each stands in the folded text."""
    marks: list[int]

    def span(self, begin: int, end: int) -> Span:
        """The words of the reading (the last not included) that content words are."""
        return self.words[begin], self.words[end - 1] + 1

    def is_one_part(self, begin: int, end: int) -> bool:
        """Whether no punctuation parts some content words."""
        first, last = self.begins[begin], self.begins[end - 1]
        return bisect_left(self.marks, first) == bisect_left(self.marks, last)


def content_of(reading: Reading) -> Content:
    """The content words of a text."""
    words = reading.words
    kept = [
        number
        for number, word in enumerate(words)
        if word not in _FILLERS and not (word == "bit" and number and words[number - 1] == "a")
    ]
    marks = [each.start() for each in _PUNCTUATION.finditer(reading.folded.text)]
    begins = reading.begins
    return Content(
        [stem(words[each]) for each in kept], kept, [begins[each] for each in kept], marks
    )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Groups of names of concepts, one of each of which must stand near the others."""

    groups: tuple[tuple[str, ...], ...]

    def find(self, hits: Hits, window: int = WINDOW) -> tuple[Span, ...] | None:
        """The first places that fit, in content words; none where there are none."""
        return next(self.find_all(hits, window), None)

    def find_all(self, hits: Hits, window: int = WINDOW) -> Iterator[tuple[Span, ...]]:
        """All places that fit, those around each place of the rarest group."""
        if not all(any(name in hits for name in group) for group in self.groups):
            return
        found = [_places(group, hits) for group in self.groups]
        anchors, *others = sorted(found, key=len)
        for anchor in anchors:
            if chosen := _gather(anchor, others, window):
                yield chosen


def _places(group: tuple[str, ...], hits: Hits) -> Sequence[Span]:
    named = [hits[name] for name in group if name in hits]
    return named[0] if len(named) == 1 else sorted(chain.from_iterable(named))


def _gather(anchor: Span, others: list[Sequence[Span]], window: int) -> tuple[Span, ...] | None:
    """A place of each list near the anchor, none of which overlap; none where there is none."""
    near = [_around(places, anchor, window) for places in others]
    chosen = _choose((anchor,), near, window) if all(near) else None
    return tuple(sorted(chosen)) if chosen else None


def _choose(
    chosen: tuple[Span, ...], lists: list[Sequence[Span]], window: int
) -> tuple[Span, ...] | None:
    if not lists:
        return chosen
    begin, end = min(each[0] for each in chosen), max(each[1] for each in chosen)
    nearest = sorted(lists[0], key=lambda each: abs(each[0] - chosen[0][0]))
    for place in nearest[:TRIED]:
        is_near = max(end, place[1]) - min(begin, place[0]) <= window
        if not is_near or any(max(place[0], b) < min(place[1], e) for b, e in chosen):
            continue
        if found := _choose((*chosen, place), lists[1:], window):
            return found
    return None


def _around(places: Sequence[Span], anchor: Span, window: int) -> Sequence[Span]:
    first = bisect_left(places, (anchor[0] - window, 0))
    last = bisect_left(places, (anchor[0] + window, 0))
    return places[first:last]


class Vocabulary:
    """All concepts, found in a text in one pass; patterns are read with it."""

    def __init__(self, concepts: Mapping[str, Sequence[str]]) -> None:
        """Concepts by name; one of their phrases may be another concept (`@pain`)."""
        self._concepts = {name: words for name, words in concepts.items() if name != MISSPELT}
        pairs = (each.partition("=") for each in concepts.get(MISSPELT, ()))
        self._spelt = {stem(wrong): stem(right) for wrong, _, right in pairs}
        self._names: dict[tuple[str, ...], dict[str, None]] = {}
        self._lengths: dict[str, list[int]] = {}
        self._firsts: dict[str, set[str]] = {}
        for name in self._concepts:
            for phrase in self._phrases(name):
                self._add(phrase, name)

    def pattern(self, text: str) -> Pattern:
        """The pattern that a text says: groups with `+`, alternatives with `|`.

        Raises:
            ValueError: a concept is unknown, or a phrase has no word that counts.
        """
        return Pattern(tuple(self._group(each) for each in text.split("+")))

    def find(self, content: Content, only: Container[str] | None = None) -> dict[str, list[Span]]:
        """The places of each concept that a text holds, in order.

        With `only`, of those whose phrases begin with one of these stems (see `beginnings`).
        """
        hits: dict[str, list[Span]] = {}
        stems = [self._spelt.get(each, each) for each in content.stems]
        lengths = self._lengths
        wanted = lengths if only is None else only
        hidden = hides = 0  # words before `hidden` are of an ignored phrase of so many words
        for begin, first in enumerate(stems):
            if first not in wanted:
                continue
            for length in lengths[first]:
                end = begin + length
                names = self._names.get(tuple(stems[begin:end]), ())
                if not names or end > len(stems) or not content.is_one_part(begin, end):
                    continue
                for name in names:
                    if name == IGNORED:
                        hidden, hides = end, length
                    elif begin >= hidden or length >= hides:
                        hits.setdefault(name, []).append((begin, end))
        return hits

    def beginnings(self, patterns: Iterable[Pattern]) -> frozenset[str]:
        """The stems that phrases of some patterns, and phrases to be ignored, begin with."""
        named = {name for each in patterns for group in each.groups for name in group}
        return frozenset(
            chain.from_iterable(self._firsts.get(each, ()) for each in {*named, IGNORED})
        )

    def _group(self, text: str) -> tuple[str, ...]:
        return tuple(self._name(each.strip()) for each in text.split("|"))

    def _name(self, text: str) -> str:
        if text.startswith("$"):
            return text
        if text.startswith("@"):
            if text[1:] not in self._concepts:
                raise ValueError(f"no concept '{text}'")
            return text[1:]
        self._add(text, f"={text}")
        return f"={text}"

    def _add(self, phrase: str, name: str) -> None:
        stems = tuple(stem(word) for word in words_in(phrase) if word not in _FILLERS)
        if not stems:
            raise ValueError(f"'{phrase}' has no word that counts")
        self._names.setdefault(stems, {})[name] = None
        self._firsts.setdefault(name, set()).add(stems[0])
        lengths = self._lengths.setdefault(stems[0], [])
        if len(stems) not in lengths:
            lengths.append(len(stems))
            lengths.sort(reverse=True)

    def _phrases(self, name: str, depth: int = 4) -> Iterator[str]:
        if name not in self._concepts or not depth:
            raise ValueError(f"no concept '@{name}'")
        for phrase in self._concepts[name]:
            if phrase.startswith("@"):
                yield from self._phrases(phrase[1:], depth - 1)
            else:
                yield phrase
