"""Levels of consciousness in text, as letters of ACVPU: `find_levels`."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.context import Context, context_of
from medllm.clinical.text.reading import Reading, read

CONSCIOUSNESS = "consciousness"
ACVPU = "ACVPU"
_VOICE = r"(?:voice|verbal|speech|sound|command|name)"
_PAIN = r"(?:pain(?:ful)?(?! ?(?:relie|medic|kill|manag|control))|noxious)"
_TO = r"(?: \w+)? to (?:a |loud |deep |any |all )?"
_RESPONDS = r"\b(?:respon[ds]\w*|rous\w+|wakes|opens (?:his |her |the )?eyes)"
_FAILS = r"(?:\bnot|n't|\bnever|\bunable to|\bfails to) (?:respond|rouse|wake)\w*"
_KEY = (
    r"\b(?:acvpu|avpu|consciousness|conscious level|mental status)(?: (?:score|level))?(?: of)?"
    r"[^\w.]{0,6}(?:is |was |remains )?"
)
_CONFUSED = (
    r"\b(?:(?:new(?:ly)?|acute(?:ly)?)[- ](?:onset )?)?(?:confus(?:ed|ion)|disorient(?:at)?ed|"
    r"delirious|delirium)\b(?! (?:by|with|between|over)\b| about (?!time|place|where|who|the date))"
)
_ALERT = (
    r"(?:(?:\b(?:is|was|are|remains?|remained|seems|appears?|appeared|stays|not|fully|now|still|"
    r"currently)|'s|n't) (?:(?:awake|conscious),? (?:and )?)?|\b(?:awake|conscious|oriented),? "
    r"(?:and )?)alert\b(?! (?:to|for|the|fired|was|system|score)\b)|"
    r"(?:^|[,;.:|(]|[-*]) ?\**alert\b(?=\** ?(?:[,.;|)(]|$|- |: ?0))|"
    r"\b(?:patient|she|he) alert(?=[,;]| and)|\balert and orient|\ba ?& ?o ?x"
)
_WORDS = (
    ("A", rf"{_KEY}(?:fully )?(?:alert|normal|intact)\b"),
    ("C", rf"{_KEY}(?:new(?:ly)? )?confus(?:ed|ion)\b"),
    ("V", rf"{_KEY}voice\b"), ("P", rf"{_KEY}pain\b"), ("U", rf"{_KEY}unresponsive\b"),
    *((each, rf"{_KEY}{each.lower()}\b(?! (?!on\b)[a-z]| ?[=/])") for each in ACVPU),
    ("CVPU", rf"{_KEY}(?:reduced|decreased|altered|impaired)\b|\b(?:reduced|decreased|altered|"
             r"impaired|depressed) (?:level of )?(?:consciousness|conscious level|mental status)"),
    ("U", rf"{_FAILS}{_TO}{_PAIN}|\bunresponsive(?: to (?:{_PAIN}|all|any|stimul\w+))?\b(?! to )|"
          rf"{_FAILS}(?!{_TO})\b"),
    ("PU", rf"(?:{_FAILS}{_TO}|\bunresponsive to ){_VOICE}|\bin (?:a )?(?:deep )?coma\b|"
           r"\bcomatose\b|\bunconscious\b|\b(?:can|could) ?(?:not|n't|'t) be (?:woken|a?roused)"),
    ("V", rf"{_RESPONDS}{_TO}{_VOICE}"), ("P", rf"{_RESPONDS}{_TO}{_PAIN}"),
    ("VP", r"\b(?:drowsy|sleepy|lethargic|somnolent|obtunded|stuporous)\b"),
    ("C", _CONFUSED), ("A", _ALERT), ("A", r"\bfully conscious\b"),
)  # fmt: skip
_LEVEL = re.compile("|".join(f"(?P<l{at}>{words})" for at, (_, words) in enumerate(_WORDS)))
_STEM = re.compile(
    r"alert|a ?& ?o|acvpu|avpu|coma|confus|conscious|deliri|disorient|drows|letharg|mental status|"
    r"obtund|opens|respon|rous|sleepy|somnol|stupor|wake|woken"
)
"""What stands in every level: a text without it is not searched at length."""
_IS_KEYED = re.compile(_KEY)
_SCALE = re.compile(
    r"\b[acvpu] ?[=:] ?(?:new )?(?:alert|confus\w+|respon\w+|voice|pain|unresponsive)|"
    r"\balert(?: ?\([^)]*\))?[ ,/|-]+(?:or |and |new |newly |c ?[-=:] ?)*(?:confus\w+|voice|verbal)"
    r"[ ,/|(]+(?:or |responds? to )*(?:voice|verbal|pain)[^.;]*|"
    r"confus\w+[ ,/|]+(?:or )?(?:voice|verbal|[vpu]\b)[^.;]*"
)
"""The letters of the scale in a row, of which none is said of the patient."""
_NOT = re.compile(
    r"(?:\b(?:not|no|never|nor|neither|denies|denied|without)\b|n't\b)(?: (?:any|new|newly|"
    r"signs? of|evidence of|longer|currently|at all|be|been|become|seem|appear|look|fully))* ?$"
)
_NOT_ALERT = re.compile(r"\bnot |n't ")
_NOUN = re.compile(r"confusion|delirium")
_CHRONIC = re.compile(r"\b(?:chronic(?:ally)?|long-?standing|pre-?existing|usual(?:ly)?) $")
_USUAL = re.compile(
    r",? ?(?:(?:at|is|as|his|her|their|the|usual) )*baseline\b|(?:,| \w+)? as usual"
)
_EARLIER = re.compile(r"(?: (?!since\b)\w+){0,2}? (?:yesterday|earlier|last night|last week)\b")
_OPEN = re.compile(
    r"\b(?:if|when|whenever|unless|until|once|in case|whether)\b[^,;]*$|"
    r"\b(?:may|might|could|can|would|will|should|to (?:be|become|get|grow|avoid|prevent|leave))"
    r"(?: \w+){0,4} $|\b(?:patients|people|those|adults|anyone|someone) (?:who|with|that)\b[^;]*$|"
    r"\b(?:an?|any|every) (?:\w+ )?(?:patient|person|adult)(?: who|,|$)[^;]*$"
)
"""Before a level that is a condition, is possible, or is that of people at large."""
_SOUGHT = re.compile(
    r"\b(?:watch|look|monitor\w*|assess\w*|check\w*|observ\w*|screen\w*|alert (?:to|for)|risks?|"
    r"signs?|causes?|prevent\w*|avoid\w*|exclude|report|example|e\.g\.|such as)(?: \w+){0,3} "
    r"(?:(?!\b(?:is|was|remains|has)\b)[^;:])*$|\bany (?:\w+ )?$"
)
"""Before a level that is looked for, feared or an example, unless it is denied."""
_CLAIM = re.compile(r"\b(?:is|was|remains|has become) (?:\w+ )?$")
_NOW = re.compile(r"\b(?:now|currently)\b[^,;]*$")
_PERSON = re.compile(r" (?:patient|person|adult)s?\b")
_ARTICLE = re.compile(r"\b(?:an?|every) $")
_SCORES = re.compile(
    r"[\"')*]{0,3}(?: patients?)?(?: would| always)? (?:scores?|gives|counts?|is worth|can|may|"
    r"should|must|is an?)\b| ?= ?[0-3]"
)
_SUBJECT = re.compile(r"\b(?:the|this|your) patient|\b(?:he|she|his|her|they)\b")
_SENTENCE = re.compile(r"[.!?;](?: |$)")
NEAR = 160
"""Characters before and after a level that can say how it is meant."""
_COMA = {"A": (15, 15), "C": (9, 14), "V": (9, 14), "P": (4, 12), "U": (3, 8)}
"""Points of the coma scale that go with a letter: a coma has 8 at most, who is alert has all 15."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level of consciousness in a text: the letters of ACVPU that it leaves possible.

    "Alert" is `A`, "drowsy" is `VP`, "not confused" is `AVPU`. `is_said` is false where it is a
    condition, a possibility, a rule or a thing to look for, and no state of the patient.
    """

    letters: str
    begin: int
    end: int
    is_said: bool = True


def find_levels(text: str) -> tuple[Level, ...]:
    """The levels in a text, in order, but those of the past, of others, and of old confusion."""
    reading = read(text)
    folded = reading.folded.text
    if not _STEM.search(folded):
        return ()
    masked = _SCALE.sub(lambda match: "_" * len(match[0]), folded)
    found: list[Level] = []
    for match in _LEVEL.finditer(masked):
        begin = _begin_of_sentence(folded, match.start())
        before = folded[begin : match.start()]
        if _is_elsewhere(reading, match, before):
            continue
        place = reading.folded.origin(*match.span())
        if now := _NOW.search(folded, begin, match.end()):
            # what the same sentence says before "now" is no longer so
            since, _ = reading.folded.origin(begin, now.end())
            until, _ = reading.folded.origin(*now.span())
            while found and since <= found[-1].begin < until:
                found.pop()
        found.append(_level(reading, match, before, place))
    return tuple(found)


def letters_of_coma(points: Decimal) -> str:
    """The letters of ACVPU that go with points of the Glasgow Coma Scale."""
    return "".join(letter for letter, (low, high) in _COMA.items() if low <= points <= high)


def _begin_of_sentence(text: str, end: int) -> int:
    begin = max(0, end - NEAR)
    return max((stop.end() for stop in _SENTENCE.finditer(text, begin, end)), default=begin)


def _context(reading: Reading, match: re.Match[str]) -> Context:
    first = bisect_left(reading.begins, match.start())
    return context_of(reading, first, max(bisect_left(reading.begins, match.end()), first + 1))


def _is_elsewhere(reading: Reading, match: re.Match[str], before: str) -> bool:
    """Whether it is of another time, of somebody else, or a confusion that is not new."""
    text, context = reading.folded.text, _context(reading, match)
    is_chronic = _CHRONIC.search(before) or _USUAL.match(text, match.end())
    is_past = context.historical or _EARLIER.match(text, match.end())
    return bool(is_chronic or is_past or context.experiencer != "patient")


def _level(reading: Reading, match: re.Match[str], before: str, place: tuple[int, int]) -> Level:
    text, context = reading.folded.text, _context(reading, match)
    letters = _WORDS[int(str(match.lastgroup)[1:])][0]
    is_denied = _NOT.search(before) or (letters == "A" and _NOT_ALERT.search(match[0]))
    if is_denied or (context.negated and _NOUN.search(match[0])):
        letters = "".join(each for each in ACVPU if each not in letters)
        is_sought = False
    else:
        is_supposed = context.hypothetical and not _CLAIM.search(before)
        is_sought = bool(is_supposed or _SOUGHT.search(before))
    is_said = not (is_sought or _OPEN.search(before) or _is_rule(text, before, match))
    return Level(letters, *place, is_said)


def _is_rule(text: str, before: str, match: re.Match[str]) -> bool:
    """Whether a level is asked for, or told with its points as a rule and of nobody."""
    stop = _SENTENCE.search(text, match.end(), match.end() + NEAR)
    if stop and stop[0][0] == "?":
        return True
    if _ARTICLE.search(before) and _PERSON.match(text, match.end()):
        return True
    scores = _SCORES.match(text, match.end()) and not _IS_KEYED.match(match[0])
    return bool(scores) and not _SUBJECT.search(before)
