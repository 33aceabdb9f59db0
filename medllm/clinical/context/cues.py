"""Cues: the words that tell how other words are meant, as the table `cues` lists them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table, unknown_names
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading

ASPECTS = (
    "negated", "possible", "historical", "hypothetical", "family", "family past", "other",
    "left", "right", "bilateral", "affirmed",
)  # fmt: skip
BITS = {aspect: 1 << number for number, aspect in enumerate(ASPECTS)}
ALL = (1 << len(ASPECTS)) - 1
SIDES = BITS["left"] | BITS["right"] | BITS["bilateral"]
_PLACES = ("before", "after", "answer", "end", "instead")
_DETERMINERS = frozenset(
    {"the", "a", "an", "his", "her", "my", "your", "our", "their", "its", "this", "that"}
)
_NO_TESTS = _DETERMINERS | frozenset(
    words_in("is are was were be been being and or nor but with for of on in has had have also")
)
_WHOSE = frozenset({"who", "with", "whose"})


def _cue_faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    reach = row.get("reach")
    if reach is not None and (not isinstance(reach, int) or reach < 1):
        yield "reach must be a number of words"
    yield from unknown_names("aspect", row.get("aspects", ()), BITS)


CUES = Table(
    name="cues",
    columns=frozenset({"where", "aspects", "phrases", "reach", "only_after", "not_after", "sign"}),
    needed=frozenset({"where", "phrases"}),
    lists=frozenset({"aspects", "phrases", "only_after", "not_after", "sign"}),
    choices={"where": _PLACES},
    faults=_cue_faults,
)


@dataclass(frozen=True, slots=True)
class Cue:
    """What a phrase says of the words around it; see the head of the table for its columns."""

    where: str
    bits: int
    reach: int
    only_after: frozenset[str]
    not_after: frozenset[str]
    signs: tuple[str, ...]

    def stands(self, reading: Reading, begin: int, end: int) -> bool:
        """Whether the words from `begin` to `end` are this cue, by what stands around them."""
        if self.signs and not (reading.between(end - 1) or ".").startswith(self.signs):
            return False
        if reading.words[begin] == "ve" and (
            not reading.folded.text.startswith("-", reading.begins[begin] - 1)
        ):
            return False  # +ve, and not -ve
        if self.where == "before" and _is_of_a_test(reading, begin, end):
            return False
        if not (self.only_after or self.not_after):
            return True
        words = reading.words
        if self.not_after and end < len(words) and words[end] in _WHOSE:
            return True
        while begin > 1 and words[begin - 1] in _DETERMINERS:
            begin -= 1
        before = words[begin - 1] if begin else ""
        return before not in self.not_after and (not self.only_after or before in self.only_after)


Hit = tuple[int, int, tuple[Cue, ...]]
"""Begin and end, in words, of a phrase, and the cues that it is."""
Cues = Phrases[tuple[Cue, ...]]


def build_cues(knowledge: Knowledge) -> Cues:
    """The cues of the rules by their phrases."""
    cues: dict[tuple[str, ...], tuple[Cue, ...]] = {}
    for row in knowledge.rows("cues"):
        cue = _build_cue(row)
        for phrase in row["phrases"]:
            words = tuple(map(_plain, words_in(phrase)))
            cues[words] = (*cues.get(words, ()), cue)
    return Phrases((" ".join(words), each) for words, each in cues.items())


def find_cues(reading: Reading, cues: Cues, first: int, last: int) -> Iterator[Hit]:
    """The cues in a part of a text, in order; of a phrase those that the words around it allow."""
    part = reading.words[first:last]
    for begin, end, meant in cues.find([_plain(each) if each < "a" else each for each in part]):
        begin, end = begin + first, end + first
        yield begin, end, tuple(each for each in meant if each.stands(reading, begin, end))


def _build_cue(row: Row) -> Cue:
    bits = sum(BITS[aspect] for aspect in row.get("aspects", ()))
    return Cue(
        where=row["where"],
        bits=bits or (ALL if row["where"] == "end" else 0),
        reach=row.get("reach") or 10**9,
        only_after=frozenset(row.get("only_after", ())),
        not_after=frozenset(row.get("not_after", ())),
        signs=tuple(row.get("sign", ())),
    )


def _is_of_a_test(reading: Reading, begin: int, end: int) -> bool:
    """Whether "negative" is of the word before it, and denies none after it: HER2-negative."""
    if reading.words[begin:end] != ["negative"] or not begin:
        return False
    return reading.between(begin - 1) in ("-", " ") and reading.words[begin - 1] not in _NO_TESTS


def _plain(word: str) -> str:
    """A year as 1999 and every other number as 9."""
    if word.isdigit():
        return "1999" if len(word) == 4 and word[:2] in {"19", "20"} else "9"
    return word
