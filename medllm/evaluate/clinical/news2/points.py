"""The points of each parameter of NEWS2 that an answer states."""

import re
from collections.abc import Iterator, Mapping

from medllm.evaluate.clinical.news2.words import END, THRESHOLD

AIR, SATURATION = "air or oxygen", "oxygen saturation"
PARAMETERS: Mapping[str, str] = {
    "respiratory rate": r"resp(?:iratory|iration)?\.? rates?|respirations?|rr|breathing rate|"
    r"breaths per minute|tachypn\w+|bradypn\w+",
    SATURATION: r"(?:oxygen|o2)[ -]sat\w*|spo2|sp02|saturations?|sats?|hypox\w+",
    AIR: r"air or oxygen|(?:supplemental |on )?oxygen(?: therapy| support)?|o2|room air",
    "systolic blood pressure": r"systolic(?: blood pressure| bp)?|sbp|blood pressure|bp|"
    r"hypotension|hypertension",
    "pulse": r"heart rate|pulse(?: rate)?|hr|tachycardia|bradycardia",
    "consciousness": r"(?:level of )?consciousness|acvpu|avpu|mental status|(?:new )?confusion|"
    r"newly confused|alertness|respon(?:ds?|sive) to (?:voice|pain)|unresponsive|"
    r"(?<!warning )(?<!the )(?<!this )(?<!an )alert(?! fired| was| system)",
    "temperature": r"(?:body )?temp(?:erature)?|fever|pyrexia|hypothermia",
}
NAMES = "|".join(PARAMETERS.values())
_NAMED = "|".join(f"(?P<p{at}>{words})" for at, words in enumerate(PARAMETERS.values()))
_NAME = re.compile(rf"(?i)(?<![a-z0-9])(?:{_NAMED})(?![a-z0-9])")
_DIGIT = r"([0-3]|zero|no|one|two|three)"
_NO_UNIT = r"(?![\d.]|\s?(?:l\b|lit|%|°|mm|/|min|hour|bpm|beats|breaths))"
_POINTS = re.compile(
    rf"(?i)[(\[]\s*(?:(?:scor\w+|news2?|points?)\b[ :=]*)?\+?{_DIGIT}\s*(?:points?|pts?)?\s*[)\]]|"
    rf"(?<![\w.])\+\s?{_DIGIT}{_NO_UNIT}|"
    rf"(?<![\d.])\b{_DIGIT} ?(?:points?|pts?)\b|"
    rf"(?:\bscor(?:es?|ing|ed)|\bgives|\bcontribut\w+|\badds|\bworth|->|→|=>|=)\s*"
    rf"(?:of |an? |is |[:=] ?)?\**\+?{_DIGIT}{_NO_UNIT}|"
    rf"\|\s*\+?{_DIGIT}\s*(?:\||$)|[:–—-]\s*\**\+?{_DIGIT}\**\s*$"
)
_RIGHT_AFTER = re.compile(rf"(?i)\s*[:=]?\s*{_DIGIT}(?=\s*(?:[,;)]|\.(?!\d)|and\b|$)){_NO_UNIT}")
"""As in `respiratory rate 3, pulse 2`."""
_OF_ITS_OWN = re.compile(
    rf"(?i)[.\n]\s*(?:[-*•]\s+)?\**(?:news ?2? )?(?:scores?|points?)\**\s*[:=]\s*"
    rf"\**\+?{_DIGIT}(?![\d.])"
)
"""A sentence or a line below that says nothing but the points."""
_REVERSED = re.compile(
    rf"(?i)(?<![\d.])\b{_DIGIT} ?(?:points?|pts?)? (?:for|from|due to|because of) (?:the |an? |"
    rf"being on |his |her |their |raised |low |high |reduced |elevated |increased )*"
    rf"(?:{_NAMED})(?![a-z0-9])"
)
_ON = re.compile(
    r"(?i)\b(?:on|with|via|breathing|receiving)\s+(?:\d{1,2}\s?(?:l|litres?|liters?)(?:/min| per "
    r"minute)?\s+(?:of\s+)?)?(?:supplemental\s+)?$|\(\s*$"
)
"""Before the air that a saturation is measured on: points that follow are the saturation's."""
_WORDS = {"zero": 0, "no": 0, "one": 1, "two": 2, "three": 3}


def stated_points(answer: str) -> dict[str, set[int]]:
    """The points that an answer states for each parameter: one number, unless it contradicts.

    What it says of limits (`25 or more scores 3`) counts only where it says nothing else of a
    parameter.
    """
    own: dict[str, set[int]] = {}
    rules: dict[str, set[int]] = {}
    for name, points, is_rule in _read(answer):
        (rules if is_rule else own).setdefault(name, set()).add(points)
    return rules | own


def _read(answer: str) -> Iterator[tuple[str, int, bool]]:
    """Each parameter with its points, and whether they are told as a rule."""
    for match in _REVERSED.finditer(answer):
        yield _named(match), _points(match), False
    rest = _REVERSED.sub(lambda match: " " * len(match[0]), answer)
    names = list(_without_air(rest, list(_NAME.finditer(rest))))
    for at, name in enumerate(names):
        stop = END.search(rest, name.end())
        end = stop.start() if stop else len(rest)
        following = [each.start() for each in names[at + 1 :] if _named(each) != _named(name)]
        first = min(end, following[0]) if following else end
        points = _POINTS.search(rest, name.end(), first)
        points = points or _RIGHT_AFTER.match(rest, name.end(), end)
        if not points and first == end:
            points = _OF_ITS_OWN.match(rest, end)
        if points:
            yield _named(name), _points(points), _is_rule(rest[name.end() : points.start()])


def _without_air(text: str, names: list[re.Match[str]]) -> Iterator[re.Match[str]]:
    """The names but for the air in `SpO2 92 % on 2 L/min oxygen: 2 points`."""
    for at, name in enumerate(names):
        before = names[at - 1] if at else None
        if _named(name) == AIR and before and _named(before) == SATURATION:
            between = text[before.end() : name.start()]
            if _ON.search(between) and not END.search(between) and not _POINTS.search(between):
                continue
        yield name


def _is_rule(between: str) -> bool:
    """Whether points are those of a limit or a range, with no value of the patient beside it."""
    without = THRESHOLD.sub(" ", between)
    return without != between and not re.search(r"\d", without)


def _named(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return next(name for at, name in enumerate(PARAMETERS) if groups[f"p{at}"])


def _points(match: re.Match[str]) -> int:
    said = next(
        each for each in match.groups() if each and re.fullmatch(_DIGIT, each, re.I)
    ).lower()
    return _WORDS[said] if said in _WORDS else int(said)
