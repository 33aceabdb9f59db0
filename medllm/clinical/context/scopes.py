"""Which words of a sentence the cues in it reach."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from medllm.clinical.context.cues import ALL, BITS, SIDES, Cue, Cues, find_cues
from medllm.clinical.text.reading import Reading

_COMMA = re.compile(r"[,:()](?! which (?:ha[sd] |have )?(?:resolved|settled))")
_SIGN = re.compile(r"\(([-+])\) ?(?=\w)|(?:^|(?<=[\s(]))(\?) ?(?=\w)")
"""`(-) fever`, `(+) cough`, `?PE`."""
_SIGN_REACH = 3
_ANSWERED = re.compile(r"[:?]| -|- ")
_ANSWER_WORDS = 3
_FAR = 10**9


@dataclass(frozen=True, slots=True)
class Scopes:
    """What reaches each word of a sentence from cues before it and after it.

    `sides` are the words (of the text) that name a side themselves; `handed_on` is what a heading,
    which ends with a colon, says of the items of the list below it.
    """

    ahead: list[int]
    behind: list[int]
    sides: dict[int, int]
    handed_on: int


def find_scopes(reading: Reading, first: int, last: int, cues: Cues) -> Scopes:
    """The scopes in the sentence of the words from `first` to `last`, which is not included."""
    events = _Events(reading, first, last)
    for begin, end, meant in find_cues(reading, cues, first, last):
        answer = next((each for each in meant if each.where == "answer"), None)
        if answer and _is_answer(reading, begin, end):
            events.add_answer(begin, end, answer)
        else:
            events.add(begin, end, meant)
    events.add_signs()
    events.add_reply(cues)
    behind = events.behind
    ahead = _sweep(range(first, last + 1), events.ahead, events.walls_ahead, events.ends_ahead)
    open_at_end = ahead.pop()
    is_heading = reading.between(last - 1).lstrip("* ").startswith(":")
    return Scopes(
        ahead,
        _sweep(range(last - 1, first - 1, -1), behind, events.walls_behind, events.ends_behind)[
            ::-1
        ],
        events.sides,
        open_at_end & ~SIDES if is_heading else 0,
    )


_Openings = defaultdict[int, list[tuple[int, int]]]
_Closings = defaultdict[int, int]


class _Events:
    """Where scopes begin and end, going through the words of a sentence ahead and back."""

    def __init__(self, reading: Reading, first: int, last: int) -> None:
        self._reading, self._first, self._last = reading, first, last
        self.ahead, self.behind = _Openings(list), _Openings(list)
        self.walls_ahead, self.walls_behind = _Closings(int), _Closings(int)
        self.ends_ahead, self.ends_behind = _Closings(int), _Closings(int)
        self.sides: dict[int, int] = {}
        for comma in _COMMA.finditer(*self._extent()):
            word = bisect_left(reading.begins, comma.start())
            self.walls_ahead[word] |= SIDES
            self.walls_behind[word - 1] |= ALL

    def add(self, begin: int, end: int, cues: Iterable[Cue]) -> None:
        """The scopes that cues in the words from `begin` to `end` open and close."""
        for cue in cues:
            if cue.where == "end":
                self.ends_ahead[begin] |= cue.bits
                self.ends_behind[end - 1] |= cue.bits
            elif cue.where == "after":
                self.behind[begin - 1].append((cue.bits, cue.reach))
            elif cue.where == "before":
                if cue.bits & SIDES:
                    self.sides.update(dict.fromkeys(range(begin, end), cue.bits & SIDES))
                    self.walls_ahead[begin] |= SIDES
                if not (cue.bits & BITS["negated"] and self._is_parted(end)):
                    self.ahead[end].append((cue.bits, cue.reach))

    def add_answer(self, begin: int, end: int, cue: Cue) -> None:
        """An answer, such as `no`, to what stands before it; it closes a clause."""
        self.behind[begin - 1].append((cue.bits, cue.reach))
        self.walls_ahead[begin] |= ALL
        self.walls_behind[end - 1] |= ALL

    def add_signs(self) -> None:
        """The signs of notes: `(-) fever`, `?PE`."""
        for sign in _SIGN.finditer(*self._extent()):
            word = bisect_left(self._reading.begins, sign.end())
            self.walls_ahead[word] |= BITS["negated"] | BITS["possible"]
            if sign[1] != "+":
                bits = BITS["negated"] if sign[1] else BITS["possible"]
                self.ahead[word].append((bits, _SIGN_REACH))

    def add_reply(self, cues: Cues) -> None:
        """The answer that the next sentence begins with (`Any fever? No`), or a query: `PE?`."""
        last = self._last
        if "?" not in self._reading.between(last - 1):
            return
        end = min(last + _ANSWER_WORDS, len(self._reading.words))
        for begin, stop, meant in find_cues(self._reading, cues, last, end):
            if begin == last and _is_answer(self._reading, begin, stop):
                openings = [(each.bits, _FAR) for each in meant if each.where == "answer"]
                self.behind[last - 1] += openings
                return
        if last - self._first <= _ANSWER_WORDS:
            self.behind[last - 1].append((BITS["possible"], _FAR))

    def _extent(self) -> tuple[str, int, int]:
        """The folded text, and where what stands around the sentence in it begins and ends."""
        reading, first, last = self._reading, self._first, self._last
        begin = reading.ends[first - 1] if first else 0
        return reading.folded.text, begin, reading.ends[last - 1]

    def _is_parted(self, end: int) -> bool:
        """Whether a comma stands after a cue, as in `No, that is wrong`."""
        return self._reading.between(end - 1).startswith(",")


def _is_answer(reading: Reading, begin: int, end: int) -> bool:
    if not begin or not _ANSWERED.search(reading.between(begin - 1)):
        return False
    if end == len(reading.words) or reading.between(end - 1)[:1] in {",", ".", ";", ")", "!"}:
        return True
    _, here = reading.place(begin, end)
    after, _ = reading.place(end, end + 1)
    return "\n" in reading.text[here:after]


def _longest(scopes: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The furthest end for each set of aspects; there are few, however many cues there are."""
    ends: dict[int, int] = {}
    for bits, last in scopes:
        if bits:
            ends[bits] = max(ends.get(bits, 0), last)
    return ends


def _sweep(order: range, openings: _Openings, walls: _Closings, ends: _Closings) -> list[int]:
    """For each word the aspects that reach it, going through the words in `order`.

    A wall closes what was open before it; an end, too, and nothing opens at it.
    """
    reached = [0] * len(order)
    reaching: dict[int, int] = {}
    for step, word in enumerate(order):
        closed = ends.get(word, 0)
        closing = closed | walls.get(word, 0)
        opening = [(bits & ~closed, step + reach) for bits, reach in openings.get(word, ())]
        if opening or (reaching and closing):
            still = [(bits & ~closing, last) for bits, last in reaching.items()]
            reaching = _longest([*still, *opening])
        if reaching:
            mask = 0
            for bits, last in reaching.items():
                mask |= bits if last > step else 0
            reached[step] = mask
            if not mask:
                reaching = {}
    return reached
