"""What a text denies or tells of the past, and what it tells the reader to do or not to do."""

import re
from collections.abc import Iterator

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.reading import Reading, Span

_NOT = (
    r"(?:not|\w*n't|"
    r"(?:is|are|was|were|do|does|did|has|have|had|ca|wo|could|would|should|must|need)nt)"
)
_DENIES = re.compile(
    r"\b(?:no(?! longer| sorry| better| worse| relief| help| idea| one| matter| response| pulse)|"
    r"without|den(?:y|ies|ied|ying)|never(?= had| have| experienced| felt)|negative for|free of|"
    rf"rule[sd]? out|{_NOT} (?:have|having|had|any|got|experienc\w+|"
    r"complain\w+ of|report\w*|suffer\w*|noticed))\b"
)
_ENDS_DENIAL = re.compile(
    r"\b(?:but|however|although|though|yet|except|because|since|just|only|now|today|then|until|"
    r"and (?:i|i'?m|s?he'?s?|my|his|her|they|is|has|now|the|can'?t|cannot|keeps?|feels?))\b|"
    r"[,;:] ?(?:i|i'?m|s?he'?s?|my|his|her|they|it|the|is|has|can'?t|cannot|just)\b|[-(]"
)
_PART = re.compile(
    r"[,;]|\b(?:but|now|today|currently|tonight|this morning|and (?:i|i'?m|s?he'?s?) )"
)
_WORSENING = re.compile(
    r"\b(?:if|unless|should)\b[^.]{0,60}\b(?:worse\w*|worsen\w*|persists?|continues?|no better|"
    r"does not|doesn't|don't|do not|not improv\w+|lasts?|returns?|comes? back|becomes?)\b"
)
_PUT_OFF = re.compile(
    r"(?<!t wait until )(?<!t wait till )\b(?:tomorrow|next week|in a few days|on monday|"
    r"in the morning|within a week|(?:at|on) (?:the|your) next (?:visit|appointment|check\w*))\b"
)
_DECLINES = re.compile(
    rf"\b(?:no (?:need|reason)|{_NOT} (?:need|have to|necessary|required|call|go|worth)|needn't|"
    r"unnecessary|rather than|instead of|before you|avoid)\b"
)
_FORBIDS = re.compile(
    rf"\b(?:{_NOT}|never|avoid\w*|without|rather than|instead of|cannot|stop|no|dangerous|wrong|"
    r"nor|myth|refrain)\b"
)
_NOTHING = re.compile(
    r"(?:put|place|insert|stick|force|pour|give|offer|feed|apply|take|use) "
    r"(?:(?:him|her|them|it) )?(?:absolutely )?(?:nothing|no)\b"
)
Asides = tuple[re.Pattern[str], ...]
HIDES = ("part", "words")
"""What an aside keeps from being a sign: its part of the sentence, or its own words."""
_BEFORE = 60
"""Characters before a word in which such a cue counts, within its sentence."""
_FAR = 150
"""Characters that a denial reaches at most, and in which worsening is looked for."""


def build_asides(knowledge: Knowledge) -> Asides:
    """What hides its part of a sentence, and what hides its own words."""
    rows = knowledge.rows("asides")
    patterns = ([row["pattern"] for row in rows if row["hides"] == hides] for hides in HIDES)
    return tuple(re.compile("|".join(each or ["(?!)"])) for each in patterns)


def not_meant(reading: Reading, asides: Asides) -> list[Span]:
    """The parts of the folded text that deny, tell of the past or mean something else, in order."""
    past, other = asides
    folded = reading.folded.text
    parts = []
    for first, last in reading.sentences:
        if first < last:
            begin, end = reading.begins[first], reading.ends[last - 1]
            parts += [*_denials(folded, begin, end), *_pasts(past, folded, begin, end)]
            parts += [each.span() for each in other.finditer(folded, begin, end)]
    return sorted(parts)


def _denials(folded: str, begin: int, end: int) -> Iterator[Span]:
    for cue in _DENIES.finditer(folded, begin, end):
        reach = min(end, cue.end() + _FAR)
        stop = _ENDS_DENIAL.search(folded, cue.end(), reach)
        yield cue.end(), stop.start() if stop else reach


def _pasts(past: re.Pattern[str], folded: str, begin: int, end: int) -> Iterator[Span]:
    marks = [begin, *(each.start() for each in _PART.finditer(folded, begin, end)), end]
    for left, right in zip(marks, marks[1:], strict=False):
        if past.search(folded, left, right):
            yield left, right


def is_directed(reading: Reading, first: int, *, on_condition: bool = False) -> bool:
    """Whether the call for help at a word is made: not declined, nor put off.

    One that is left to worsening counts where it may be made `on_condition`.
    """
    begin, end = _sentence(reading, first)
    folded, at = reading.folded.text, reading.begins[first]
    around = max(begin, at - _FAR), min(end, at + _FAR)
    if _PUT_OFF.search(folded, *around):
        return False
    if not on_condition and _WORSENING.search(folded, *around):
        return False
    return not _DECLINES.search(folded, max(begin, at - _BEFORE), at + 1)


def is_forbidden(reading: Reading, first: int) -> bool:
    """Whether a sentence says not to do what begins at a word: never put, put nothing."""
    begin, _ = _sentence(reading, first)
    folded, at = reading.folded.text, reading.begins[first]
    return bool(_FORBIDS.search(folded, max(begin, at - _BEFORE), at) or _NOTHING.match(folded, at))


def _sentence(reading: Reading, word: int) -> Span:
    first, last = reading.sentence_at(word)
    return reading.begins[first], reading.ends[last - 1]
