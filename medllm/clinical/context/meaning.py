"""The context of words in a text."""

from dataclasses import dataclass
from typing import Literal

from medllm.clinical.context.cues import BITS, SIDES, build_cues
from medllm.clinical.context.scopes import Scopes, find_scopes
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.text.reading import Reading

_LEFT, _RIGHT = BITS["left"], BITS["right"]


@dataclass(frozen=True, slots=True)
class Context:
    """How words are meant; without cues they are affirmed, of now, and of the patient.

    A child, a spouse or a parent is `family` even where the question is about them.
    """

    negated: bool = False
    possible: bool = False
    historical: bool = False
    hypothetical: bool = False
    experiencer: Literal["patient", "family", "other"] = "patient"
    laterality: Literal["left", "right", "bilateral"] | None = None

    @property
    def is_present(self) -> bool:
        """Whether it is said that the patient has it now, for certain or possibly."""
        is_there = not (self.negated or self.historical or self.hypothetical)
        return is_there and self.experiencer == "patient"


def context_of(
    reading: Reading, first: int, last: int, knowledge: Knowledge | None = None
) -> Context:
    """The context of the words from `first` to `last`, which is not included.

    The cues of a sentence are looked for once, in time linear in its length; `knowledge` holds
    the cues, by default those that ship.
    """
    return (knowledge or shipped_knowledge()).built(_ContextFinder).find(reading, first, last)


class _ContextFinder:
    """Finds contexts by the cues of some rules."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._cues = build_cues(knowledge)

    def find(self, reading: Reading, first: int, last: int) -> Context:
        begin, end = reading.sentence_at(first)
        scopes, inherited = self._scopes(reading, begin)
        ahead = scopes.ahead[first - begin] | inherited
        behind = scopes.behind[min(last, end) - 1 - begin]
        own = 0
        for word in range(first, last):  # `left arm pain` names its side itself
            own |= scopes.sides.get(word, 0)
        return _build_context(ahead | behind, own or ahead & SIDES or behind & SIDES)

    def by_sentence(self, reading: Reading) -> dict[int, tuple[Scopes, int]]:
        """The scopes by the first word of their sentence, and what a heading says of it.

        None is read before it is asked for.
        """
        return {}

    def _scopes(self, reading: Reading, first: int) -> tuple[Scopes, int]:
        known = reading.built(self.by_sentence)
        unread = [first]
        while unread[-1] not in known and _is_item(reading, unread[-1]):
            unread.append(reading.sentence_at(unread[-1] - 1)[0])
        for begin in reversed(unread):
            if begin not in known:
                above = known[reading.sentence_at(begin - 1)[0]] if begin != unread[-1] else None
                inherited = (above[0].handed_on or above[1]) if above else 0
                end = reading.sentence_at(begin)[1]
                known[begin] = find_scopes(reading, begin, end, self._cues), inherited
        return known[first]


def _is_item(reading: Reading, first: int) -> bool:
    """Whether a sentence is an item of a list: it begins a line, and no paragraph unmarked."""
    if not first or not reading.begins_line(first):
        return False
    _, end = reading.place(first - 1, first)
    begin, _ = reading.place(first, first + 1)
    between = reading.text[end:begin]
    return between[len(between.rstrip()) :].count("\n") < 2


def _build_context(bits: int, sides: int) -> Context:
    is_family = bool(bits & BITS["family"])
    is_past = is_family and bits & BITS["family past"]
    return Context(
        negated=bool(bits & BITS["negated"]) and not bits & BITS["affirmed"],
        possible=bool(bits & BITS["possible"]),
        historical=bool(bits & BITS["historical"] or is_past),
        hypothetical=bool(bits & BITS["hypothetical"]),
        experiencer="family" if is_family else "other" if bits & BITS["other"] else "patient",
        laterality=_laterality(sides),
    )


def _laterality(sides: int) -> Literal["left", "right", "bilateral"] | None:
    if sides & BITS["bilateral"] or sides & _LEFT and sides & _RIGHT:
        return "bilateral"
    if sides & _LEFT:
        return "left"
    return "right" if sides & _RIGHT else None
