"""What an answer says of NEWS2: its total, the points of each parameter, and how to respond.

The rules read English, and judge what is said, not what is meant; `docs/evaluate.md` has how often
they are right.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from medllm.clinical.scores import Score, Unscorable
from medllm.clinical.scores.observations import read_news2

MOST = {"air or oxygen": 2}
"""The most points of a parameter, where they are not 3 (RCP 2017, chart 1)."""
HIGH, MEDIUM = 7, 5
"""Totals from which RCP 2017, chart 4, asks for an emergency and for an urgent response."""
URGENT_POINTS = 3
"""So many points of one parameter ask for an urgent response, too."""

Total = Literal["right", "wrong", "not stated", "possible", "not recomputed"]
Response = Literal["right", "under", "over", "not stated", "not recomputed"]

_NEWS = r"(?:news(?:[ -]?2(?!\d))?+|national early warning score(?: ?2(?!\d))?+)"
_WAY = (
    r"(?:[ -]+(?:news(?:[ -]?2(?!\d))?+|(?:score|total|points?|of|is|was|the|this|an?|aggregate|"
    r"here|now|therefore|thus|patient's|comes to|adds up to|sums to|equals|should be|calculated as|"
    r"at least)\b))*+[\s:=*_()|]{0,10}+(?:is |was |of |at least )?+\**+\+?"
)
_NUMBER = (
    r"(?P<total>\d{1,2})(?![\d%°/]|[.,]\d|st\b|nd\b|rd\b|th\b)"
    r"(?!\**\s?(?:or (?:more|above|higher|greater|over|less|below)|\+|and (?:above|over|more)|"
    r"[-–]\s?\d|to \d|points? (?:for|from|in)\b|(?:for|in) (?:a |any |one |the )))"
)
_TOTALS = (
    re.compile(rf"\b(?:{_NEWS}|total|aggregate|overall){_WAY}{_NUMBER}", re.IGNORECASE),
    re.compile(rf"\b(?:(?:early )?warning |an? |the |overall )score{_WAY}{_NUMBER}", re.IGNORECASE),
)
_PARAMETERS: Mapping[str, str] = {
    "respiratory rate": r"resp(?:iratory|iration)?\.? rates?|respirations?|rr|breathing rate|"
    r"breaths per minute|tachypn\w+|bradypn\w+",
    "oxygen saturation": r"(?:oxygen|o2)[ -]sat\w*|spo2|sp02|saturations?|sats?|hypox\w+",
    "air or oxygen": r"air or oxygen|(?:supplemental |on )?oxygen(?: therapy| support)?|o2|"
    r"room air",
    "systolic blood pressure": r"systolic(?: blood pressure| bp)?|sbp|blood pressure|bp|"
    r"hypotension|hypertension",
    "pulse": r"heart rate|pulse(?: rate)?|hr|tachycardia|bradycardia",
    "consciousness": r"(?:level of )?consciousness|acvpu|avpu|mental status|(?:new )?confusion|"
    r"newly confused|alertness",
    "temperature": r"(?:body )?temp(?:erature)?|fever|pyrexia|hypothermia",
}
_NAMES = "|".join(f"(?P<p{at}>{words})" for at, words in enumerate(_PARAMETERS.values()))
_NAME = re.compile(rf"(?<![a-z0-9])(?:{_NAMES})(?![a-z0-9])", re.IGNORECASE)
_DIGIT = r"([0-3]|zero|no|one|two|three)"
_POINTS = re.compile(
    rf"\(\s*(?:scor\w+ )?\+?{_DIGIT}\s*(?:points?|pts?)?\s*\)|"
    rf"(?<![\w.])\+\s?{_DIGIT}(?![\d.]|\s?[l%°])|"
    rf"(?<![\d.])\b{_DIGIT} ?(?:points?|pts?)\b|"
    rf"(?:\bscor(?:es?|ing|ed)|\bgives|\bcontribut\w+|\badds|\bworth|->|→|=>|=)\s*(?:of |an? )?\+?"
    rf"{_DIGIT}(?![\d.]|\s?(?:l\b|lit|%|°|mm|/))|\|\s*\+?{_DIGIT}\s*\|?\s*$",
    re.IGNORECASE,
)
_REVERSED = re.compile(
    rf"(?<![\d.])\b{_DIGIT} ?(?:points?|pts?)? (?:for|from|due to|because of) (?:the |an? |"
    rf"being on |his |her |their |raised |low |high |reduced |elevated |increased )*"
    rf"(?:{_NAMES})(?![a-z0-9])",
    re.IGNORECASE,
)
_WORDS = {"zero": 0, "no": 0, "one": 1, "two": 2, "three": 3}
_END = re.compile(r"\n|[;!?]|\.(?!\d)")
_EMERGENCY = (
    r"emergency (?:response|assessment|review|team|call|clinical|medical|help|care)|"
    r"medical emergency|immediate(?:ly)?\b|(?:met|rapid response|crash|outreach)[ -](?:call|team)|"
    r"rapid response|critical[ -]care|intensive care|\bicu\b|high[- ]dependency|"
    r"continuous(?:ly)? (?:vital|monitor|observ)\w*|without delay|\b2222\b"
)
_URGENT = (
    r"urgent(?:ly)?\b|within (?:the |an? |one |1 |30 |60 |15 |half an )?(?:next )?(?:hour|min)\w*|"
    r"(?<![\d-])(?<!\d )\b(?:every hour|hourly)\b|1-hourly|"
    r"prompt(?:ly)? (?:medical )?(?:review|assess)\w*|"
    r"(?:senior|medical|doctor|physician|registrar)\w*(?: \w+)? (?:review|assessment)"
)
_ROUTINE = (
    r"\d{1,2}(?: ?(?:to|-|–) ?\d{1,2})?[ -]hour(?:s|ly)|routine|ward-based|"
    r"(?:registered |ward )?nurse (?:to )?(?:review|assess)\w*|no escalation|"
    r"continue (?:to )?(?:the )?(?:usual )?(?:monitor|observ)\w*"
)
_RESPONSES = re.compile(f"(?P<l3>{_EMERGENCY})|(?P<l2>{_URGENT})|(?P<l1>{_ROUTINE})", re.IGNORECASE)
_NOT_MEANT = re.compile(
    r"\b(?:no|not|non|without|n't|neither|nor|unlikely|never)\b[- ]?(?:\w+ ){0,3}$|"
    r"\b(?:if|should|unless|when|until)\b[^,;]{0,80}$|\b(?:if|should|unless)\b.{0,80}$",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class AlertChecks:
    """What of an answer agrees with the score of the observations that it was given."""

    total: Total
    """`possible`: something is not given, and the stated total is within what it can be."""
    points: Mapping[str, bool]
    """Of each parameter whose points are stated: whether they are right."""
    unstated: tuple[str, ...]
    """The parameters that score points, of which the answer states none."""
    response: Response
    is_urgent: bool = False
    """Whether the score asks for more than the ward's routine."""
    reason: str = ""
    """Why the score cannot be recomputed."""


def check_alert(given: str, answer: str) -> AlertChecks:
    """Hold what an answer says of NEWS2 against the observations in the text that it was given."""
    if reason := why_not_scored(given):
        return AlertChecks("not recomputed", {}, (), "not recomputed", reason=reason)
    score = read_news2(given)
    stated = stated_points(answer)
    right = {
        name: found == {score.points[name]}
        for name, found in stated.items()
        if name in score.points
    }
    unstated = tuple(name for name, points in score.points.items() if points and name not in right)
    return AlertChecks(
        _judge_total(answer, score), right, unstated, _judge_response(answer, score),
        is_urgent=_needed(score) > 1,
    )  # fmt: skip


def why_not_scored(given: str) -> str | None:
    """Why NEWS2 cannot be computed of the observations in a text; None where it can be."""
    try:
        return None if read_news2(given).points else "nothing that NEWS2 asks for"
    except Unscorable as problem:
        return f"no NEWS2: {problem.message}"


def stated_totals(answer: str) -> set[int]:
    """The totals of NEWS2 that an answer states; one such as "7 or more" is none."""
    for pattern in _TOTALS:
        if found := {int(match["total"]) for match in pattern.finditer(answer)}:
            return found
    return set()


def stated_points(answer: str) -> dict[str, set[int]]:
    """The points that an answer states for each parameter: one number, unless it contradicts."""
    found: dict[str, set[int]] = {}
    for match in _REVERSED.finditer(answer):
        found.setdefault(_named(match), set()).add(_points(match))
    rest = _REVERSED.sub(lambda match: " " * len(match[0]), answer)
    names = list(_NAME.finditer(rest))
    for at, name in enumerate(names):
        stop = _END.search(rest, name.end())
        end = stop.start() if stop else len(rest)
        following = [each.start() for each in names[at + 1 :] if _named(each) != _named(name)]
        end = min(end, following[0]) if following else end
        if points := _POINTS.search(rest, name.end(), end):
            found.setdefault(_named(name), set()).add(_points(points))
    return found


def stated_response(answer: str) -> int:
    """The most urgent response that an answer asks for now: 3 emergency, 2 urgent, 1 routine, 0."""
    return max(_responses(answer), default=0)


def needed_response(total: float, *, has_three: bool) -> int:
    """The response that a total asks for: 3 emergency, 2 urgent, 1 ward-based (RCP 2017)."""
    if total >= HIGH:
        return 3
    return 2 if total >= MEDIUM or has_three else 1


def _judge_total(answer: str, score: Score) -> Total:
    totals = stated_totals(answer)
    if not totals:
        return "not stated"
    if totals == {score.total}:
        return "right"
    most = score.total + sum(MOST.get(name, URGENT_POINTS) for name in score.missing)
    return "possible" if all(score.total <= each <= most for each in totals) else "wrong"


def _judge_response(answer: str, score: Score) -> Response:
    level = stated_response(answer)
    if not level:
        return "not stated"
    needed = _needed(score)
    most = 3 if score.missing else needed
    return "under" if level < needed else "over" if level > most else "right"


def _needed(score: Score) -> int:
    return needed_response(score.total, has_three=URGENT_POINTS in score.points.values())


def _responses(answer: str) -> Iterator[int]:
    for match in _RESPONSES.finditer(answer):
        begin = max((each.end() for each in _END.finditer(answer, 0, match.start())), default=0)
        if not _NOT_MEANT.search(answer[begin : match.start()]):
            yield int((match.lastgroup or "l0")[1:])


def _named(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return next(name for at, name in enumerate(_PARAMETERS) if groups[f"p{at}"])


def _points(match: re.Match[str]) -> int:
    said = next(
        each for each in match.groups() if each and re.fullmatch(_DIGIT, each, re.I)
    ).lower()
    return _WORDS[said] if said in _WORDS else int(said)
