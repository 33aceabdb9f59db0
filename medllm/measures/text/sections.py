"""Sections of a clinical note, and what a discharge text should say."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from medllm.clinical.text.reading import Reading
from medllm.measures.text.facts import Fact

_HEADING = re.compile(
    r"(?:^|\n)[ \t]*(?:<(?P<tag>[A-Z][A-Z /&_-]{2,40})>|(?:\d{1,2}[.)] *)?"
    r"(?P<line>[A-Za-z][A-Za-z /&'-]{2,40}?) ?(?::|(?=\n)))"
    r"|(?<=[.,;] )(?P<loud>[A-Z][A-Z /&'-]{3,40}):"
)
_NAMES: Mapping[str, str] = {
    "allergies": r"allerg",
    "family history": r"\bfamily",
    "social history": r"\bsocial|\bhabits",
    "past history": r"\bpast\b|\bpmh|\bpsh|medical history|surgical history",
    "review of systems": r"review of systems|\bros$",
    "medications": r"medication|\bmeds\b|\bdrugs?\b|prescri",
    "complaint": r"complaint|\breason\b|presenting|\bindication",
    "present illness": r"present illness|\bhpi\b|\bhistory\b|subjective|interval",
    "examination": r"\bexam|physical|objective|vital",
    "results": r"\blabs?\b|laborator|result|\bdata\b|imaging|radiolog|studies|\becg|\bekg|findings",
    "procedures": r"procedure|operati|surgery",
    "course": r"course|\badmission",
    "assessment": r"assessment|impression|diagnos|conclusion",
    "plan": r"\bplan\b|recommend|disposition|follow|instruct|discharge|treatment",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _NAMES.items()}
OTHER = "other"
"""What stands before the first heading, or below one of no known name."""

DISCHARGE: Mapping[str, str] = {
    "reason for admission": r"\badmitted\b|\bpresent(?:s|ed|ing)\b|complaint|reason for|brought in",
    "condition at discharge": r"\bstable\b(?! (?:angina|coronary|ischa?emic))|"
                              r"\b(?:good|fair|satisfactory) condition|"
                              r"condition (?:at|on|upon)? ?discharge|discharge condition",
    "instructions": r"instruct|\badvised\b|\bcall (?:if|your|the)|return (?:if|to)|"
                    r"\bdiet\b|\bactivity\b|should (?:avoid|take|call|return)",
    "pending results": r"\bpending\b|\bawait",
    "allergies": r"allerg|\bnkda\b",
}  # fmt: skip
"""What a discharge text says, beside the facts below: what the Joint Commission's standard IM.6.10
asks for (Kind and Smith 2008) and the consensus on transitions of care (Snow et al. 2009)."""
_FACTS = {"diagnosis": "diagnosis", "procedure": "procedures", "medication": "medications",
          "follow-up": "follow-up"}  # fmt: skip


def name_sections(reading: Reading, facts: Sequence[Fact]) -> list[str]:
    """Of each fact the section that it stands in, by one of few names, never by its own words."""
    begins, names = [0], [OTHER]
    for match in _HEADING.finditer(reading.text):
        heading = (match["tag"] or match["line"] or match["loud"]).lower()
        name = next((name for name, each in _PATTERNS.items() if each.search(heading)), "")
        if name:
            begins.append(match.start())
            names.append(name)
    return [names[bisect_right(begins, each.place[0]) - 1] for each in facts]


def find_elements(reading: Reading, facts: Sequence[Fact]) -> set[str]:
    """The elements of a discharge text that a text has."""
    text = reading.folded.text
    said = {name for name, pattern in DISCHARGE.items() if re.search(pattern, text)}
    return said | {_FACTS[each.kind] for each in facts if each.kind in _FACTS}


def is_discharge(text: str) -> bool:
    """Whether a text is of a discharge from hospital."""
    return re.search(r"discharg|hospital course", text, re.IGNORECASE) is not None
