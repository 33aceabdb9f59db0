"""Sides and denials that are the other way round, of words that no vocabulary needs to hold."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medllm.clinical.context import context_of
from medllm.clinical.entities.words import normal
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading
from medllm.measures.text.comparing import Unsupported

_SIDES = {"left": "left", "right": "right", "bilateral": "both", "l": "left", "r": "right"}
_HEARD = {
    "left": re.compile(r"\b(?:[Ll]eft|L[A-Z0-9]*|[Bb]ilat\w*|[Bb]oth|B/L|b/l)\b"),
    "right": re.compile(r"\b(?:[Rr]ight|R[A-Z0-9]*|[Bb]ilat\w*|[Bb]oth|B/L|b/l)\b"),
}
_SEXES = {
    **dict.fromkeys(words_in("male man gentleman boy"), "male"),
    **dict.fromkeys(words_in("female woman lady girl"), "female"),
}
_RESULTS = ("positive", "negative")
_BETWEEN = frozenset(
    words_in(
        "is are was were came come comes back be been being has have had remain remains remained "
        "returned tested tests test screen screened result results status also both all again "
        "persistently strongly weakly found"
    )
)
"""Words between a thing and its result."""
_NO_NAMES = frozenset(
    words_in(
        "the a an of with and or to for by from in on at he she they patient it this that which "
        "who there significant notable otherwise no not but gram false true"
    )
)
"""Words before a result that no result is of."""
_STATES = frozenset(
    words_in(
        "pregnant breastfeeding intubated ventilated sedated febrile septic hypoxic hypoxemic "
        "hypoxaemic hypotensive hypertensive tachycardic bradycardic tachypneic tachypnoeic "
        "jaundiced icteric cyanotic cyanosed diabetic anemic anaemic dehydrated suicidal psychotic "
        "immunosuppressed immunocompromised anticoagulated incontinent intoxicated neutropenic"
    )
)
"""What somebody is or is not."""
_SMOKING = re.compile(
    r"\b(?:(?P<past>(?:ex|former|previous|past)[- ]?smoker|"
    r"(?:quit|stopped|gave up|given up) smoking|(?:never|not|non)[- ]?smoke[rds]?)|"
    r"(?P<now>(?:current|active|heavy)(?:ly)?[- ]?smok(?:er|ing)|smokes|still smok(?:es|ing)|"
    r"continues to smoke|smoking \d+))\b"
)
_FREE_OF = {f"a{word}": word for word in ("febrile", "cyanotic")} | {
    f"non{word}": word for word in ("pregnant", "diabetic", "icteric")
}
_SKIPPED = frozenset(
    words_in(
        "the a an in on at of with and or to for by from was is were ama against side sided after"
    )
)
"""Words after `left` and `right` that no side is of."""
_DENIED = re.compile(
    r"\b(?:no|denie[sd]|denying|without(?: any)?|negative for|no evidence of|absence of) "
    r"((?:[a-z][a-z-]* ){0,2}[a-z-]{4,})(?=[.,;:)\n]| (?:or|and|on|in|at|to|was|were|with)\b|$)"
)
_EMPTY = frozenset(
    words_in(
        "evidence history sign signs significant further other known change changes more longer "
        "need any acute new previous prior time reason plan plans way doubt"
    )
)
"""Words that make no phrase by themselves."""


@dataclass(frozen=True, slots=True)
class _Meant:
    """How a thing is meant where it stands, at the words from `first` to `last` (not included)."""

    name: str
    how: str
    first: int
    last: int


def find_flips(answer: Reading, source: Reading) -> list[Unsupported]:
    """What an answer says of a side or a sex, or denies or affirms, and its source only otherwise.

    That is where the source names the same word with the other side alone (`left flank`), or has
    the same phrase, which one of both denies (`no deformities`), and never as the answer has it.
    """
    phrases = {*_denied_phrases(answer), *_denied_phrases(source)}
    found = [
        *_contrary(_sides(answer), _sides(source), answer, "laterality"),
        *_unheard_sides(answer, source),
        *_contrary(_sexes(answer), _sexes(source), answer, "sex"),
        *_contrary(_smoking(answer), _smoking(source), answer, "negation"),
        *_contrary(_results(answer), _results(source), answer, "negation"),
        *_contrary(_states(answer), _states(source), answer, "negation"),
        *_contrary(_denials(answer, phrases), _denials(source, phrases), answer, "negation"),
    ]
    return sorted(found, key=lambda each: each.place)


def add_flips(found: Sequence[Unsupported], flips: Sequence[Unsupported]) -> list[Unsupported]:
    """All of them in order; of two that say the same of the same words the first."""
    new = [
        each
        for each in flips
        if not any(
            one.flip and one.place[0] < each.place[1] and each.place[0] < one.place[1]
            for one in found
        )
    ]
    return sorted([*found, *new], key=lambda each: each.place)


def _contrary(
    stated: Iterator[_Meant], known: Iterator[_Meant], answer: Reading, flip: str
) -> Iterator[Unsupported]:
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for each in known:
        ways[each.name].add(each.how)
    once = {(each.name, each.how): each for each in reversed(list(stated))}
    for each in once.values():
        of_source = ways.get(each.name, set())
        is_open = not of_source or each.how == "asked" or of_source & {"both", "asked"}
        if not is_open and each.how not in of_source:
            yield Unsupported("finding", "major", flip, answer.place(each.first, each.last))


def _sexes(reading: Reading) -> Iterator[_Meant]:
    """The nouns that tell a sex; pronouns may be of anybody."""
    for at, word in enumerate(reading.words):
        if word in _SEXES:
            yield _Meant("sex", _SEXES[word], at, at + 1)


def _smoking(reading: Reading) -> Iterator[_Meant]:
    """Whether somebody smokes now, where that is told from a smoker of the past, or from nobody."""
    for match in _SMOKING.finditer(reading.folded.text):
        first = bisect_left(reading.begins, match.start())
        last = bisect_left(reading.begins, match.end())
        yield _Meant("smoking", str(match.lastgroup), first, last)


def _sides(reading: Reading) -> Iterator[_Meant]:
    """Each word that stands after a side, in the singular; of two side words it has both."""
    words = reading.words
    for at, word in enumerate(words[:-1]):
        if word in _SIDES and reading.between(at) in (" ", "-") and len(words[at + 1]) > 2:
            after = at + 1
            if words[after] not in _SKIPPED and words[after] not in _SIDES:
                how = "both" if at and words[at - 1] in ("and", "or") else _SIDES[word]
                yield _Meant(normal(words[after]), how, at, after + 1)


def _unheard_sides(answer: Reading, source: Reading) -> Iterator[Unsupported]:
    """The first of each side that the source never names, not in a short form either (`LLL`)."""
    heard = {side for side, pattern in _HEARD.items() if pattern.search(source.text)}
    if len(heard) == 1:
        for side in {"left", "right"} - heard:
            for at in (at for at, word in enumerate(answer.words) if word == side):
                yield Unsupported("finding", "major", "laterality", answer.place(at, at + 1))
                break


def _results(reading: Reading) -> Iterator[_Meant]:
    """What is positive or negative: `HIV negative`, `cultures were negative`, `positive for MRSA`.

    A result is of the word before it, else of the one after it, in the singular.
    """
    words = reading.words
    for at, word in enumerate(words):
        if word not in _RESULTS or not _is_said(reading, at):
            continue
        is_for = words[at + 1 : at + 2] == ["for"]
        of, before = at + 1 + is_for, at - 1
        while before >= 0 and words[before] in _BETWEEN and reading.between(before).isspace():
            before -= 1
        is_joined = before >= 0 and reading.between(before) in (" ", "-", ": ")
        if is_joined and not is_for and words[before] not in _NO_NAMES:
            of = before
        if of < len(words) and (of < at or reading.between(of - 1) in (" ", "-")):
            yield _Meant(f"result of {normal(words[of])}", word, min(of, at), max(of, at) + 1)


def _states(reading: Reading) -> Iterator[_Meant]:
    """What somebody is or is not, where that is stated: `not pregnant`, `afebrile`."""
    for at, word in enumerate(reading.words):
        state = _FREE_OF.get(word, word)
        if state not in _STATES:
            continue
        context = context_of(reading, at, at + 1)
        if context.experiencer == "patient" and not context.hypothetical:
            is_free = state != word or reading.words[max(at - 1, 0)] == "non"
            how = "denied" if context.negated != is_free else "affirmed"
            yield _Meant(state, "asked" if _is_asked(reading, at) else how, at, at + 1)


def _is_said(reading: Reading, at: int) -> bool:
    """Whether a result is stated, neither denied nor asked for nor only possible."""
    context = context_of(reading, at, at + 1)
    return not (context.negated or context.hypothetical)


def _denied_phrases(reading: Reading) -> Iterator[tuple[str, ...]]:
    """The phrases right after a denial, as `no deformities`, and words behind `non-`."""
    for match in _DENIED.finditer(reading.folded.text):
        first = bisect_left(reading.begins, match.start(1))
        last = bisect_left(reading.begins, match.end(1))
        words = tuple(map(normal, reading.words[first:last]))
        while words and words[0] in _EMPTY:
            words = words[1:]
        if words and not _EMPTY.issuperset(words):
            yield words
    for at, word in enumerate(reading.words[:-1]):
        if word == "non" and reading.between(at) in (" ", "-"):
            yield (normal(reading.words[at + 1]),)


def _denials(reading: Reading, phrases: set[tuple[str, ...]]) -> Iterator[_Meant]:
    """Where phrases stand, and whether they are denied, affirmed or only asked for there."""
    words = [normal(word) for word in reading.words]
    for at, lengths in _begins(words, phrases):
        for length in lengths:
            last = at + length
            if tuple(words[at:last]) not in phrases:
                continue
            is_denied = context_of(reading, at, last).negated or words[at - 1 : at] == ["non"]
            how = "denied" if is_denied else "affirmed"
            how = "asked" if _is_asked(reading, at) else how
            yield _Meant(" ".join(words[at:last]), how, at, last)


def _is_asked(reading: Reading, at: int) -> bool:
    return "?" in reading.between(reading.sentence_at(at)[1] - 1)


def _begins(
    words: Sequence[str], phrases: set[tuple[str, ...]]
) -> Iterator[tuple[int, Sequence[int]]]:
    """The places where a phrase may begin, with the lengths of those that do."""
    lengths: Mapping[str, set[int]] = defaultdict(set)
    for phrase in phrases:
        lengths[phrase[0]].add(len(phrase))
    for at, word in enumerate(words):
        if word in lengths:
            yield at, sorted(lengths[word], reverse=True)
