"""How an answer says to respond: emergency, urgent, or the ward's routine."""

import re
from collections.abc import Iterator

from medllm.evaluate.clinical.news2.words import THRESHOLD, clause_around, clause_before

Levels = tuple[int, int]
"""The least and the most that is meant: 3 emergency, 2 urgent, 1 routine, 0 nothing."""
NOTHING: Levels = (0, 0)
_DOCTOR = (
    r"(?:medical|clinical) team|doctor|physician|registrar|consultant|clinician|gp\b|"
    r"medical officer|house officer|senior|specialist"
)
_CALLED = (
    rf"(?:inform|notif(?:y|ies)|call(?! for)|contact|alert|bleep|page|escalat\w+(?: \w+)? to|"
    rf"discuss(?:ed)? with|refer(?:red|ral)? to|review(?:ed)? by|seen by)\b(?: \w+){{0,3}}? "
    rf"(?:{_DOCTOR})"
)
_HELP = (
    r"review\w*|assess\w*|inform\w*|notif\w+|call\w*|contact\w*|escalat\w*|medical|attention|"
    r"attend\w*|help|doctor|team|clinician|physician|response|evaluat\w+|action|interven\w+|seen"
)
_EMERGENCY = (
    r"emergency (?:response|assessment|review|team|call|clinical|medical|help|care|services?)|"
    r"medical emergency|(?:met|rapid response|crash|outreach|arrest|2222)[ -](?:call|team)|"
    r"rapid response|critical[ -]care|intensive care|\b(?:icu|itu)\b(?! patient)|"
    r"high[- ]dependency|"
    r"continuous(?:ly)? (?:\w+ )?(?:vital|monitor|observ)\w*|monitor\w* (?:\w+ )?continuous(?:ly)?|"
    r"without delay|\bcall (?:999|911|112|2222)\b"
)
_AT_ONCE = (
    rf"\bimmediate(?:ly)?\b(?=[^.;\n]{{0,40}}?\b(?:{_HELP}))|"
    rf"\b(?:{_HELP})\b[^.;\n]{{0,50}}?\bimmediate(?:ly)?\b"
)
_URGENT = (
    rf"urgent(?:ly)?\b|within (?:the |an? |one |1 |30 |60 |15 |half an )?(?:next )?"
    rf"(?:hour|min)\w*|(?<![\d-])(?<!\d )\b(?:every hour|hourly)\b(?! urine| fluid)|"
    rf"\b1[ -]hour(?:ly)?\b|every (?:15|20|30|fifteen|twenty|thirty) min\w*|half-hourly|"
    rf"prompt(?:ly)? (?:medical )?(?:review|assess)\w*|{_CALLED}|"
    rf"(?:senior|medical|doctor|physician|registrar)\w*(?: \w+)? (?:review|assessment)"
)
_ROUTINE = (
    r"\d{1,2}(?: ?(?:to|-|–) ?\d{1,2})?[ -]hour(?:s|ly)|routine|ward-based|"
    r"nurse,? (?:to |who (?:must|will|should) |should |must |will )?(?:review|assess)\w*|"
    r"no escalation|continue (?:to )?(?:the )?(?:usual )?(?:monitor|observ)\w*"
)
_RESPONSES = re.compile(
    f"(?i)(?P<l3>{_EMERGENCY})|(?P<l23>{_AT_ONCE})|(?P<l2>{_URGENT})|(?P<l1>{_ROUTINE})"
)
_EVERY = re.compile(
    r"(?i)\bevery (?P<every>\d{1,2})(?: ?(?:to|-|–) ?\d{1,2})? hours|"
    r"\b(?P<hourly>\d{1,2})(?: ?(?:to|-|–) ?\d{1,2})?[ -]hourly\b"
)
_LEVELS: dict[str, Levels] = {"l3": (3, 3), "l23": (2, 3), "l2": (2, 2), "l1": (1, 1)}
"""Immediate is RCP's own word for informing the team from 5 points on, and from 7 on."""
_NOT_MEANT = re.compile(
    r"\b(?:no|not|non|without|n't|neither|nor|unlikely|never)\b[- ]?(?:\w+ ){0,3}$|"
    r"\b(?:if|unless|when|until)\b[^,;]{0,80}$|\b(?:if|unless)\b.{0,80}$|"
    r"(?:^|,)\W*should (?:the|his|her|he|she|it|they|this|any|observations)\b.{0,80}$",
    re.IGNORECASE | re.DOTALL,
)
_NOT_NEEDED = re.compile(
    r"(?i)[^,;.\n]{0,60}?\b(?:(?:is|are|was|were|would|will|does|do)(?: currently| yet)? ?n[o']t\b|"
    r"not (?:yet )?(?:required|needed|necessary|indicated|warranted|reached|met)|unnecessary)"
)
_AGAIN = re.compile(r"(?i)(?:intensive care|high[- ]dependency)(?: unit)? \($")
"""Before the short name of a unit that was just named."""
_UNIT = re.compile(r"(?i)intensive|icu|itu|high|critical")
_PLACE = re.compile(r"(?i)\b(?:in|on|at|from|left|of|to)(?: (?:the|an?|our|his|her))?(?: \w+)? $")
_WANTED = re.compile(
    r"(?i)\b(?:should|needs?|must|consider\w*|requir\w+|transfer(?!red)|admit(?!ted)|admission|manag\w+|"
    r"care|call|escalate|refer|discuss|move|recommend\w*)\b"
)
_OF_PATIENT = re.compile(
    r"(?i)\b(?:this|his|her|the patient|patient's|he|she|now|here|therefore|so|thus|because|"
    r"currently)\b"
)


def stated_response(answer: str) -> Levels:
    """The most urgent response that an answer asks for now.

    What it tells of the score's rules counts only where it asks for nothing else.
    """
    found = list(_responses(answer))
    own = [levels for levels, is_rule in found if not is_rule]
    return max(own or [levels for levels, _ in found], default=NOTHING, key=lambda each: each[::-1])


def stated_hours(answer: str) -> int | None:
    """The fewest hours between observations that an answer asks for; of a range the lower end."""
    own = [
        int(match["every"] or match["hourly"])
        for match in _EVERY.finditer(answer)
        if not _NOT_MEANT.search(clause_before(answer, match.start()))
        and not _is_rule(clause_around(answer, match.start(), match.end()))
    ]
    return min(own, default=None)


def _responses(answer: str) -> Iterator[tuple[Levels, bool]]:
    """Each response that is meant, and whether it is told as a rule."""
    for match in _RESPONSES.finditer(answer):
        before = clause_before(answer, match.start())
        if _NOT_MEANT.search(before) or _NOT_NEEDED.match(answer, match.end()):
            continue
        place = _AGAIN.sub("", before)
        if _UNIT.match(match[0]) and _PLACE.search(place) and not _WANTED.search(place):
            continue  # where the patient is, or comes from
        clause = clause_around(answer, match.start(), match.end())
        yield _LEVELS[match.lastgroup or "l1"], _is_rule(clause)


def _is_rule(clause: str) -> bool:
    return bool(THRESHOLD.search(clause)) and not _OF_PATIENT.search(clause)
