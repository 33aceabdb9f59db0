"""What clinicians write for short in a question, read in words: `58M on simva`, `16/40`, `w/o`.

The rules find there what they find in a sentence; places stay those of the text.
"""

import re
from collections.abc import Container, Iterator
from itertools import chain

from medllm.clinical.text.keyed import Edit

_BEGIN = r"(?=\d)(?:(?<![\s\S])|(?<=[.:;,(\n] )|(?<=[\n(])|(?<=\b[Pp]t )|(?<=\b[Aa] )(?=\d+[MF]))"
"""The beginning of a text, a sentence or a line; after `pt`, and `a` before `58M`."""
_FORMS = tuple((signs.split("|"), re.compile(pattern), words) for signs, pattern, words in (
    ("M", rf"{_BEGIN}(\d{{1,3}}) ?/?M\b(?! catheter| drain| NG)", r"\1 year old male"),
    ("F", rf"{_BEGIN}(?!9[4-9] ?F|10\d ?F|110 ?F)(\d{{1,3}}) ?/?F\b(?! catheter| drain| NG)",
     r"\1 year old female"),
    ("y", r"\b(\d{1,3}) ?(?:yo|y/o|yrs?|y),? ?[Mm]\b", r"\1 year old male"),
    ("y", r"\b(\d{1,3}) ?(?:yo|y/o|yrs?|y),? ?[Ff]\b", r"\1 year old female"),
    ("yo|y/o", r"\b(\d{1,3}) ?(?:yo|y/o)\b", r"\1 years old"),
    ("/12", r"\b(\d{1,2})/12 ?(?=[MmFf]\b|old\b|baby\b|infant\b)", r"\1 months old "),
    ("/52", r"\b(\d{1,2})/52 ?(?=[MmFf]\b|old\b|baby\b|infant\b|ex-?prem)", r"\1 weeks old baby "),
    ("PCN|pen|Pen",
     r"\b(?=[Pp])(?:PCN\b|[Pp]en(?=[ :-]+(?:allerg|anaphyl|rash|hives))|(?<=\bexcept )pen\b"
     r"|(?<=\b[Aa]ll: )pen\b|(?<=\b[Aa]llergy: )pen\b|(?<=\b[Aa]llergies: )pen\b)", "penicillin"),
    ("llergic ", r"\b(?=to pen|pen)(?<=\b[Aa]llergic )(?:to )?pen\b", "to penicillin"),
    ("All:|ADR|llerg|NKDA",
     r"\b(?:All:|(?:ADRs?|[Aa]llerg(?:y|ies)) ?[:=-]) ?(?=[a-zA-Z])|\bNKDA (?:except|but) ",
     "allergic to "),
    ("CP",
     r"\bCP(?= ?x ?\d| radiat| at rest| on ex|/SOB|,? ?\+? ?SOB)|(?<=\bc/o )CP\b"
     r"|(?<=\b[Cc]entral )CP\b|(?<=\b[Pp]leuritic )CP\b|(?<=\b[Nn]o )CP\b", "chest pain"),
    ("SO", r"\bS[Oo]B\b", "shortness of breath"),
    ("LOC", r"\bLOC\b", "loss of consciousness"),
    ("abdo", r"\babdo\b", "abdominal"),
    ("PCM", r"\bPCM\b", "paracetamol"),
    ("NWB", r"\bNWB\b", "cannot weight bear"),
    ("ve", r"(?<![\w.])\+ve\b", "positive"),
    ("w/o", r"\bw/o\b", "without"),
    ("w/| c ",
     r"\bw/ ?(?=[a-zA-Z])|(?<=[a-z] )(?<!hep )(?<!itis )(?<!min )(?<!type )c "
     r"(?=(?:aura|long|known|prev|severe|acute)\b)", "with "),
    ("DH|Meds|meds", r"\b(?:DHx[ :]+|DH: ?|(?:Current m|M)eds[ :]+)(?=[a-zA-Z])", "medications: "),
    ("UPT|CG",
     r"(?:\+ve|\b[Pp]os(?:itive)?) (?:UPT|[uh]?[hβ]CG)\b|\b(?:UPT|[uh]?[hβ]CG) (?:\+ve|pos)",
     "pregnant"),
    ("QT", r"\bQTc?[ :=]*((?:4[89]|[5-9]\d)\d)\b", r"prolonged qtc \1"),
    ("EBF|bf",
     r"\b(?=EBF|bf)(?:EBF\b|bf (?=mum|mother|mom)|(?<=\bcurrently )bf\b|(?<=\bexcl )bf\b)",
     "breastfeeding "),
))  # fmt: skip
"""What is written, what must stand in a text with it, and how it is read."""
_WEEKS = re.compile(r"(?<!scored )(?<!score )(?<!got )\b(\d{1,2})(?:\+\d)?/40\b")
_VISION = re.compile(r"\b(?:VA|va|[Vv]ision|[Vv]isual|[Aa]cuity|[Ee]yes?|20/20)\b")
_WITH_CHILD = re.compile(
    r"\b(?:\d{1,3} ?/?F|F|LMP|UPT|[Ww]om[ae]n|[Ss]he|[Hh]er|[Mm]um)\b|\+\d/40"
    r"|\b(?:[Gg]\d|[Pp]\d|[Pp]rimip|[Mm]ultip|[Pp]reg|[Gg]est|[Mm]idwife|[Ff]o?etal|[Tt]rimester)"
)


_ON = re.compile(r"\b(?P<on>[Oo]n) (?=(?P<drug>[A-Za-z]\w*))")
_NOT_TAKEN = re.compile(
    r"\b(?:based|depend(?:s|ent)?|effects?|info(?:rmation)?|advice|more|research|stud(?:y|ies)|data|"
    r"evidence|questions?|start(?:ed)?|put|go(?:ing)?|keep|stays?|remain|impact|focus|thoughts|"
    r"opinion|guidance|views?|is|are|am|was|were|been|while|when|if|not|patients?|people|anyone|"
    r"those|someone) $"
)
_LONGEST = 13
"""Words before `on` and a drug that tell something else than that it is taken, or tell it
themselves."""


def find_shorthand(text: str, drugs: Container[str]) -> Iterator[Edit]:
    """What is read in another way, in order; none overlap.

    Who is `on` one of the words of names of `drugs` takes it. `20/40` is an acuity or a score where
    nothing tells of a woman.
    """
    found = chain.from_iterable(
        ((*match.span(), match.expand(words)) for match in pattern.finditer(text))
        for signs, pattern, words in _FORMS
        if any(sign in text for sign in signs)
    )
    is_pregnant = "/40" in text and _WITH_CHILD.search(text) and not _VISION.search(text)
    weeks = _WEEKS.finditer(text) if is_pregnant else ()
    pregnant = ((*match.span(), f"{match[1]} weeks pregnant") for match in weeks)
    taken = (
        (*match.span("on"), "is on")
        for match in _ON.finditer(text)
        if match["drug"].lower() in drugs
        and not _NOT_TAKEN.search(text, max(match.start() - _LONGEST, 0), match.start())
    )
    done = 0
    for begin, end, said in sorted(
        chain(found, pregnant, taken), key=lambda each: (each[0], -each[1])
    ):
        if begin >= done:
            done = end
            yield begin, end, said
