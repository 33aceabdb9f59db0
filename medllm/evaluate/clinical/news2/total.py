"""The totals of NEWS2 that an answer states."""

import re
from collections.abc import Iterator

from medllm.clinical.text.spelled import SMALL_NUMBERS
from medllm.evaluate.clinical.news2.points import NAMES
from medllm.evaluate.clinical.news2.words import clause_before

MOST = 20
"""The highest total (RCP 2017)."""
_WORDS = SMALL_NUMBERS[:16]
_NEWS = (
    r"(?:(?:news|ews)(?:[ -]?2(?!\d))?+|(?:national )?early warning score(?: ?2(?!\d))?+)"
    r"(?:\s?\((?:news|ews) ?2?\))?+"
)
_WAY = (
    r"(?:[ -]+(?:news(?:[ -]?2(?!\d))?+|"
    r"was \d{1,2}\b[^.;\n\d]{0,40}?\b(?:and|but) (?:it )?(?:is )?now(?: at)?(?= \d)|"
    r"(?:score|total|points?|of|is|was|has|the|this|that|an?|aggregate|here|now|today|currently|"
    r"therefore|thus|patient's|for (?:this|the|that|our) patient|comes to|adds up to|sums to|"
    r"equals|should be|calculated(?: as)?|"
    r"as follows|(?:risen|increased|fallen|decreased|gone up)(?: from \d{1,2})?(?: to)?|"
    r"at least)\b))*+[\s:=*_()|]{0,10}+(?:is |was |of |at least )?+\**+\+?"
)
_TERM = r"\d{1,2}(?:\s?\([^()\n]{0,60}\))?\s*"
_SUM = rf"(?:(?:\+?{_TERM}\+\s*)+{_TERM}=\s*\**)?+"
_THINGS = (
    r"parameters?|signs?|vital|abnormal|litres?|liters?|l\b|ml\b|mg\b|hours?|days?|patients?|"
    r"variables?|observations?|measurements?|criteria|categories|items|components?"
)
_NUMBER = (
    rf"(?P<total>\d{{1,2}}|{'|'.join(_WORDS)})\b(?![\d%°]|/(?!20\b)|[.,]\d|st\b|nd\b|rd\b|th\b)"
    r"(?!\**\s?(?:or (?:more|above|higher|greater|over|less|below|\d)|\+|and (?:above|over|more)|"
    rf"[-–]\s?\d|to \d|(?:out )?of (?!20\b)\d|(?:{_THINGS})|"
    rf"(?:points? )?(?:for|from|in|on) (?:(?:a|any|one|the|his|her) )?(?:single|one|{NAMES})))"
)
_TOTALS = (
    re.compile(
        rf"(?i)\b(?:{_NEWS}|total|aggregate|overall|sum){_WAY}{_SUM}{_NUMBER}"
        r"(?!\**\s?points? (?:for|from|in) )"
    ),
    re.compile(
        rf"(?i)(?:\b(?:warning |an? |the |overall )score{_WAY}{_SUM}{_NUMBER}"
        rf"(?!\**\s?points? (?:for|from|in) ))|"
        rf"\b(?:patient|he|she|who)(?: therefore| thus| now)? scor(?:es|ed) "
        rf"(?:an? )?(?:total |aggregate )?(?:of )?{_NUMBER.replace('total', 'scored')}"
        rf"(?!\**\s?(?:points? )?(?:for|from|in|on (?!(?:the )?news)))|"
        rf"\b{_NUMBER.replace('total', 'in_all')} (?:points? )?in total\b|"
        rf"\b(?:adding|summing|added)\b[^.\n]{{0,40}}?\b(?:gives?|makes?|is|to)\s(?:a total of )?"
        rf"{_NUMBER.replace('total', 'added')}|"
        rf"(?:\b\d\s*\+\s*){{2,}}\d\s*=\s*\**{_NUMBER.replace('total', 'summed')}"
    ),
)
"""What names the score, and what does so less surely: asked only where nothing does."""
_OTHER = re.compile(
    r"(?i)\b(?:gcs|coma scale|m-?ews|pews|sofa|apache(?: ii)?|curb-65|wells|previous|prior|earlier|"
    r"last|initial|baseline|yesterday's|old)\s+(?:total\s+|score\s+|the\s+)?$"
)
"""Before the score of something else, or of another time."""
_RULE = re.compile(
    r"(?i)\W*(?:an?|any|every)\s+"
    r"(?:(?:total|aggregate|overall|high|low) |news ?2? |early warning )*$"
)
"""A sentence that begins so is about the score, as `A NEWS2 score of 7 needs …`."""


def stated_totals(answer: str) -> set[int]:
    """The totals of NEWS2 that an answer states; one such as "7 or more" is none.

    Where it says what its own total is, what it says of totals at large does not count.
    """
    for pattern in _TOTALS:
        found = list(_read(pattern, answer))
        if own := {total for total, is_rule in found if not is_rule}:
            return own
        if found:
            return {total for total, _ in found}
    return set()


def _read(pattern: re.Pattern[str], answer: str) -> Iterator[tuple[int, bool]]:
    """Each total, and whether it is told as a rule."""
    for match in pattern.finditer(answer):
        before = clause_before(answer, match.start())
        said = next(each for each in match.groupdict().values() if each).lower()
        total = _WORDS.index(said) if said in _WORDS else int(said)
        if total <= MOST and not _OTHER.search(before):
            begin = before + match[0].partition("score")[0]
            yield total, bool(_RULE.match(begin))
