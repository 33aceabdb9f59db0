"""Whether a text advises a drug, says that it is taken, warns against it or merely mentions it."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise

from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.rules.tables import Table
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading

KINDS = (
    "advise", "warn", "taken", "mention", "open", "deny", "if", "group", "swap", "target", "end",
    "passive", "good", "bad", "stopped", "risk", "joined", "better", "past", "heading", "dose",
    "neutral",
)  # fmt: skip

STANCE_CUES = Table(
    name="stance_cues",
    columns=frozenset({"kind", "phrases"}),
    needed=frozenset({"kind", "phrases"}),
    lists=frozenset({"phrases"}),
    choices={"kind": KINDS},
)


class Stance(Enum):
    """How a text stands to a drug where it names it."""

    ADVISED = "advised"
    """It is to be taken, given, continued; or stands with a dose, or in a list of medications."""
    TAKEN = "taken"
    """The person whom the text speaks of is said to take it now: `since you are on warfarin`."""
    WARNED = "warned"
    """It is to be avoided, stopped, replaced; or the person is allergic to it."""
    MENTIONED = "mentioned"
    """Anything else: mechanisms, history, questions, `if you take warfarin`."""


def stance_of(reading: Reading, word: int, knowledge: Knowledge | None = None) -> Stance:
    """The stance of a text to what stands at a word; a sentence is read once, in linear time.

    `knowledge` holds the cues, by default those that ship.
    """
    return (knowledge or shipped_knowledge()).built(_StanceFinder).find(reading, word)


def is_condition(reading: Reading, word: int, knowledge: Knowledge | None = None) -> bool:
    """Whether what stands at a word is a condition: `if you take warfarin, …`."""
    finder = (knowledge or shipped_knowledge()).built(_StanceFinder)
    return finder.state(reading, word) in {"if", "group"}


_STANCES = {
    "advise": Stance.ADVISED, "warn": Stance.WARNED, "none": Stance.WARNED, "taken": Stance.TAKEN,
}  # fmt: skip


class _StanceFinder:
    """Finds stances by the cues of some rules."""

    def __init__(self, knowledge: Knowledge) -> None:
        kinds: dict[tuple[str, ...], set[str]] = {}
        for row in knowledge.rows("stance_cues"):
            for phrase in row["phrases"]:
                kinds.setdefault(words_in(phrase), set()).add(row["kind"])
        self._cues = Phrases((" ".join(words), frozenset(each)) for words, each in kinds.items())

    def find(self, reading: Reading, word: int) -> Stance:
        return _STANCES.get(self.state(reading, word), Stance.MENTIONED)

    def state(self, reading: Reading, word: int) -> str:
        first, last = reading.sentence_at(word)
        known = reading.built(self.by_sentence)
        if first not in known:
            inherited = self._inherited(reading, first, known)
            known[first] = _SentenceStances(reading, first, last, self._cues, inherited)
        return known[first].states[word - first]

    def by_sentence(self, reading: Reading) -> "dict[int, _SentenceStances]":
        """The stances by the first word of their sentence; none is read before it is asked for."""
        return {}

    def _inherited(self, reading: Reading, first: int, known: "dict[int, _SentenceStances]") -> str:
        """What the heading of a list says of an item that begins at `first`."""
        begins = []
        while first and reading.begins_line(first):
            first = reading.sentence_at(first - 1)[0]
            begins.append(first)
            if first in known:
                break
        inherited = ""
        for begin in reversed(begins):
            if begin not in known:
                end = reading.sentence_at(begin)[1]
                known[begin] = _SentenceStances(reading, begin, end, self._cues, inherited)
            inherited = known[begin].handed_on
        return inherited


_SUBJECTS = frozenset(words_in("""
    you he she they i we to also who patient may must can should already currently and or not
    do does did has have is are be was were would could might will please
"""))  # fmt: skip
_LEADING = frozenset(words_in("""as since because given with for although though despite while in on
    after due owing considering instead rather alongside besides"""))  # fmt: skip
"""A sentence that begins so says something else after its first comma."""
_FORWARD = frozenset({"advise", "warn", "swap", "taken", "mention", "open", "if", "group", "deny"})
_BEHIND = {"joined": "taken", "better": "warn"}
_REACH_OF_DENIAL = 4
_REACH_OF_DOSE = 10
_DOSE = re.compile(r"\d+(?:mg|mcg|ug|g|ml|units?|iu|meq)")


class _SentenceStances:
    """The state of each word of a sentence, gone through once from its beginning to its end."""

    def __init__(
        self, reading: Reading, first: int, last: int, cues: Phrases[frozenset[str]], inherited: str
    ) -> None:
        self._reading, self._first = reading, first
        self._words = reading.words[first:last]
        self.states: list[str] = []
        self._state = inherited
        self._reached = 0
        self._comma = 0
        self._led = ""
        self._items: list[int] = []
        self._denied_to = -1
        self._cue_end, self._cue_kind = -1, ""
        self._is_past = self._has_target = False
        self._dosed: list[int] = []
        for hit in cues.find(self._words):
            self._fill(hit[0])
            self._read(*hit)
            self._fill(hit[1])
        self._fill(len(self._words))
        self._dosed += [at for at, word in enumerate(self._words) if _DOSE.fullmatch(word)]
        self._read_doses()
        ending = reading.between(last - 1)
        if "?" in ending:
            self.states = [each if each == "taken" else "mention" for each in self.states]
        elif self._is_past:
            self.states = ["mention" if each == "taken" else each for each in self.states]
        self.handed_on = self._hand_on(ending, inherited)

    def _hand_on(self, ending: str, inherited: str) -> str:
        """What the items of a list below this sentence begin with."""
        if ending.lstrip("* ").startswith(":"):
            return self._state
        return inherited

    def _fill(self, end: int) -> None:
        """The state goes on up to a word; a comma ends a condition, and what follows is free."""
        for at in range(len(self.states), end + 1):
            if at and self._reading.between(self._first + at - 1)[:2] in {", ", ": ", " -"}:
                self._end_clause(at)
            self.states += [self._state] * (at < end)

    def _end_clause(self, comma: int) -> None:
        """What follows is free; what stood between two commas may be a list that goes on."""
        begun, self._comma = self._comma, comma
        if self._state == "if":
            self._state = "then"
        elif self._state == "none":
            self._items.append(comma)
        elif not begun and self._state in {"warn", "taken"} and self._words[0] in _LEADING:
            self._led, self._state = self._state, "then"
        elif self._led and not any(map(str.isdigit, "".join(self._words[begun:comma]))):
            self._set_back({"then": self._led}, comma, begun)

    def _read(self, begin: int, end: int, kinds: frozenset[str]) -> None:
        kind = self._choose(end, kinds)
        if kind == "dose":
            self._add_dose(begin, end)
        elif kind == "past":
            self._is_past = True
        elif kind == "target":
            self._state = "advise" if self._has_target else self._state
            self._has_target = False
        elif kind not in {"neutral", ""}:
            self._turn(kind, begin, end)

    def _turn(self, kind: str, begin: int, end: int) -> None:
        """What a cue changes, unless it is part of a condition or of the cue before it."""
        is_bound = self._state == "if" and (not begin or self._words[begin - 1] in _SUBJECTS)
        is_part = begin == self._cue_end and self._is_absorbed(kind)
        self._cue_end, self._cue_kind = end, kind if kind in _FORWARD else ""
        if kind in {"if", "end", "heading"}:
            self._state = {"if": "if", "heading": "advise"}.get(kind, "")
            self._reached = end
        elif not (is_bound or is_part):
            self._has_target = kind in {"swap", "good"}
            if kind in _FORWARD:
                self._look_ahead(kind, begin, end)
            else:
                self._look_back(kind, begin, end)

    def _choose(self, end: int, kinds: frozenset[str]) -> str:
        """The kind of a phrase that may be of several: a heading where a colon follows it."""
        if "heading" in kinds:
            if self._reading.between(self._first + end - 1).lstrip("* ")[:1] == ":":
                return "heading"
            kinds = kinds - {"heading"}
        return next((each for each in KINDS if each in kinds), "")

    def _is_absorbed(self, kind: str) -> bool:
        """Whether a cue right behind another one belongs to it: `avoid taking`, `keep your`."""
        if self._cue_kind in {"", "deny"}:
            return False
        return kind in {"advise", "open", "taken", "swap"} and self._cue_kind != "taken"

    def _look_ahead(self, kind: str, begin: int, end: int) -> None:
        is_denied = begin <= self._denied_to
        self._denied_to = -1
        if kind == "deny":
            self._denied_to = end + _REACH_OF_DENIAL - 1
            self._state = "warn"
        elif is_denied:
            self._state = "taken" if kind == "warn" else "warn"
        else:
            self._state = "warn" if kind == "swap" else kind
            if self._state != "warn":
                self._reached = end
            elif self._words[begin:end] == ["no"]:
                self._state = "none"

    def _look_back(self, kind: str, begin: int, end: int) -> None:
        is_denied = begin <= self._denied_to
        self._denied_to = -1
        if kind == "risk":
            self._set_back({"open": "warn", "then": "warn"}, begin)
            self._state = "mention"
        else:
            is_good = (kind not in {"bad", "stopped"}) != is_denied
            stance = "advise" if is_good else "warn"
            self._set_back(
                {"": stance, "open": stance, "then": stance}, begin, self._begin_of_subject()
            )
            claimed = {"taken": stance} if is_good else {"taken": stance, "advise": stance}
            self._set_back(claimed, begin, self._comma or begin)
            self._state = _BEHIND.get(kind, "" if kind in {"good", "stopped"} else stance)
        self._reached = end

    def _begin_of_subject(self) -> int:
        """The comma behind which one thing alone is spoken of: `A 5 mg, and B was stopped`."""
        is_new = self._words[self._comma : self._comma + 1] == ["and"]
        return self._comma if is_new and self._dosed and self._dosed[-1] < self._comma else 0

    def _set_back(self, changes: Mapping[str, str], end: int, begin: int = 0) -> None:
        for at in range(max(begin, self._reached), end):
            self.states[at] = changes.get(self.states[at], self.states[at])

    def _add_dose(self, begin: int, end: int) -> None:
        """A dose or a frequency; `mg` only behind a number and not in `mg/dL`."""
        words = self._words
        is_unit = len(words[begin]) <= 2 and not words[begin].isdigit()
        is_dose = not is_unit or (begin > 0 and words[begin - 1][-1:].isdigit())
        if is_dose and words[end : end + 1] not in (["dl"], ["l"]):
            self._dosed.append(begin)

    def _read_doses(self) -> None:
        """What no cue has claimed is advised where a dose stands behind it."""
        if self._is_past:
            return
        dosed = sorted(self._dosed, reverse=True)
        self._advise_items(dosed[::-1])
        nearest = len(self.states) + _REACH_OF_DOSE
        for at in range(len(self.states) - 1, -1, -1):
            while dosed and dosed[0] > at:
                nearest = dosed.pop(0)
            if self._words[at] in {"allergy", "allergies", "allergic"}:  # to what stands before
                nearest = len(self.states) + _REACH_OF_DOSE
            if self.states[at] in {"", "then"} and nearest - at <= _REACH_OF_DOSE:
                self.states[at] = "advise"

    def _advise_items(self, dosed: Sequence[int]) -> None:
        """Behind `no`, an item of the list with a dose is free: `no aspirin, enoxaparin 40 mg`."""
        for begin, end in pairwise([*self._items, len(self.states)]):
            has_dose = bisect_left(dosed, begin) < bisect_left(dosed, end)
            if has_dose and self._words[begin] not in {"or", "nor"}:
                self.states[begin:end] = [
                    "advise" if each == "none" else each for each in self.states[begin:end]
                ]
