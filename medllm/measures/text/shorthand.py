"""A note in shorthand, written out as far as only one meaning is possible."""

import re
from collections.abc import Mapping

from medllm.clinical.doses.limits import COLUMNS
from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.text.reading import read
from medllm.clinical.text.shorthand import find_shorthand
from medllm.measures.text.spoken import with_digits

_BONE = (
    r"NOF|neck of femur|radius|ulna|tib(?:ia)?|fib(?:ula)?|tib/fib|femur|humerus|clavicle|ribs?|"
    r"hip|pelvis|pubic ram(?:us|i)|wrist|ankle|elbow|scaphoid|meta(?:carpal|tarsal)|malleolus|"
    r"vertebra|[TCL]\d{1,2}|skull|mandible|nasal bones?|patella|olecranon|sternum|"
    r"scapula|distal \w+|proximal \w+"
)
"""What `#` beside it is a fracture of; elsewhere it numbers things, or lists problems."""
_WRITTEN_OUT = (
    (re.compile(r"\bn[/&+]v/d\b", re.IGNORECASE), "nausea, vomiting and diarrhoea"),
    (re.compile(r"\bn[/&+]v\b", re.IGNORECASE), "nausea and vomiting"),
    (re.compile(r"\bd[/&+]v\b", re.IGNORECASE), "diarrhoea and vomiting"),
    (re.compile(rf"\b({_BONE}) ?#(?! ?\d)|\b(ribs?) ?#", re.IGNORECASE), r"\1\2 fracture"),
    (
        re.compile(rf"(?<![\w#])# ?(?=(?:(?:L|R|left|right) )?(?:{_BONE})\b)", re.IGNORECASE),
        "fracture ",
    ),
    (
        re.compile(r"(?<![\w-])(?<!(?i:vit) )(?<!(?i:vitamin) )(?:POD|HD|D)(?=\d{1,2}(?!\w|\.\d))"),
        "day ",
    ),
    (re.compile(r"(?<=\s)x(?=\d)"), "x "),
    (re.compile(r"(?<=\s)'(?=[0-2]\d\b)"), "20"),
    (re.compile(r"\b(?:TDS|TID|tds|tid)\b"), "3 times daily"),
    (re.compile(r"\b(?:QDS|QID|qds|qid)\b"), "4 times daily"),
    (re.compile(r"\bT([12])DM?\b"), r"type \1 DM"),
    (re.compile(r"\b(\d{1,2}-\d{1,2})/7\b"), r"\1 days"),
    (re.compile(r"\b(\d{1,2}-\d{1,2})/52\b"), r"\1 weeks"),
    (re.compile(r"\b(\d{1,2}-\d{1,2})/12\b"), r"\1 months"),
)
"""Shorthand of notes that has one meaning: days after an operation, spans of time."""
_BARE_DOSE = re.compile(
    r"(?:[ ]?[↑↓]|[ ](?:start|to|at|now|up to|down to))?[ ]?(\d+(?:\.\d+)?)"
    r"(?=\s?(?:->|→)\s?\d|(?:[ ](?:od|om|on|bd|bid|tds|tid|qds|qid|daily|nocte|mane|prn|stat|"
    r"po|iv|sc|im)\b|[,;)]|\.(?!\d)|/[a-z]|[ ]\+|$|\n|[ ](?:and|x)\b))",
    re.IGNORECASE,
)
"""A number behind a drug, and what shows that it is a dose and has no unit."""
_SMALLEST, _TOO_MUCH = 100, 10
"""A hundredth of the largest dose is the least that counts as one, ten times it the most."""
_UNIT = re.compile(r"([\d.,]+) ([a-zA-Z]+)")


def written_out(note: str) -> str:
    """The note with numbers in digits, `#` and `D&V` in words, and units behind bare doses.

    Only to look facts up in, for places in it move. `bisoprolol 2.5 od` has the one unit in which
    the table of doses gives the drug; where there are two, the number stays bare.
    """
    text, done, pieces = with_digits(note), 0, list[str]()
    for begin, end, said in find_shorthand(text, ()):
        pieces += [text[done:begin], said]
        done = end
    text = "".join([*pieces, text[done:]])
    for pattern, words in _WRITTEN_OUT:
        text = pattern.sub(words, text)
    return _with_units(text)


def _with_units(text: str) -> str:
    reading = read(text)
    pieces, done = list[str](), 0
    for mention in find_drugs(reading, shipped_knowledge()):
        _, end = reading.place(mention.first, mention.last)
        while match := _BARE_DOSE.match(text, end):
            end = match.end()
            if unit := _unit_of(mention.drugs, float(match[1]), shipped_knowledge()):
                pieces += [text[done:end], f" {unit}"]
                done = end
    return "".join([*pieces, text[done:]])


def _build_largest(knowledge: Knowledge) -> Mapping[str, Mapping[str, float]]:
    """By drug and unit, as it is written in the table, the largest number of a dose there."""
    largest: dict[str, dict[str, float]] = {}
    for row in knowledge.rows("doses"):
        for match in (_UNIT.match(str(row[column])) for column in COLUMNS if column in row):
            if match:
                known = largest.setdefault(row["drug"], {})
                known[match[2]] = max(known.get(match[2], 0), float(match[1].replace(",", "")))
    return largest


def _unit_of(drugs: tuple[str, ...], number: float, knowledge: Knowledge) -> str:
    """The only unit in which so much of a drug may be a dose, or nothing: aspirin 2 are tablets."""
    if len(drugs) != 1:
        return ""
    largest = knowledge.built(_build_largest).get(drugs[0], {})
    possible = [
        unit for unit, most in largest.items() if most / _SMALLEST <= number <= most * _TOO_MUCH
    ]
    return possible[0] if len(possible) == 1 else ""
