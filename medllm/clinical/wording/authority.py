"""Words that only a clinician may say: a definite diagnosis, a prescription."""

import re
from collections.abc import Iterator

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding, NotChecked
from medllm.clinical.rules.basis import Basis

BASIS = Basis(
    source="what a language model cannot know or do", source_kind="secondary", verified=False
)
_SURE = r"(?:definitely|certainly|clearly|undoubtedly|surely|without (?:a )?doubt)"
_DIAGNOSIS = re.compile(
    r"\b(?:my|your) (?:final |definite |definitive )?diagnosis is\b(?! (?:not|un\w+|made|based|"
    r"likely|probably|possibly|usually|often|still))"
    r"|\bi (?:can |hereby )?(?:diagnose|confirm (?:the|your) diagnosis)\b"
    rf"|\byou {_SURE} have\b|\byou have {_SURE}\b"
    r"|(?<!if )(?<!that )(?<!whether )\byou are (?:having|suffering from) an? "
    r"(?:heart attack|stroke)\b"
)
_PRESCRIPTION = re.compile(
    r"\bi (?:hereby |will |am going to |would like to )?prescribe\b|\bi(?:'m| am) prescribing\b"
    r"|\bi(?:'ll| will|'m going to| am going to) (?:start|put) you on\b"
    r"|\bi(?:'m| am) (?:starting|putting) you on\b|\bhere is (?:your|the) prescription\b"
)
_BEGINNINGS = frozenset({"my", "your", "i", "i'm", "i'll", "you", "here"})
"""The first word of each; nothing is looked for elsewhere, which takes a tenth of the time."""
_WORDINGS = (
    ("wording.diagnosis", _DIAGNOSIS, "The answer words a diagnosis as if it were certain.",
     "A clinician who examines the patient makes the diagnosis."),
    ("wording.prescription", _PRESCRIPTION, "The answer words advice as a prescription.",
     "Whoever may prescribe decides."),
)  # fmt: skip


def find_authority(case: Case) -> Iterator[Finding | NotChecked]:
    """The first wording of each kind, as a note."""
    folded, begins = case.answer.folded, case.answer.begins
    places = [begins[at] for at, word in enumerate(case.answer.words) if word in _BEGINNINGS]
    for rule, pattern, message, action in _WORDINGS:
        if found := next(filter(None, (pattern.match(folded.text, at) for at in places)), None):
            yield Finding(
                rule=rule,
                kind="wording",
                severity="info",
                message=message,
                action=action,
                basis=BASIS,
                spans=(folded.origin(*found.span()),),
            )
