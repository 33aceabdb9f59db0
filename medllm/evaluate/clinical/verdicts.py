"""Whether an answer says that a report has an error, and a guess by plain rules beside it."""

import re
from typing import Literal

from medllm.clinical.context import context_of
from medllm.clinical.entities import find_entities
from medllm.clinical.text.reading import read
from medllm.data.example import Example

Verdict = Literal["error", "correct"]
POSITIVE: Verdict = "error"
"""The class that sensitivity is of: the reports with an error."""
_FAULTS = r"(?:errors?|mistakes?|discrepanc\w+|inconsisten\w+)"
_SOUNDLY = r"(?:correct|appropriate|accurate|consistent|agree)"
_WRONGLY = r"(?:incorrect|wrong|inappropriate)"
_CORRECT = (
    r"no (?:\w+ ){0,2}?(?:errors?|mistakes?|discrepanc\w+|inconsistenc\w+|contradictions?|issues?)"
    r"\b|(?:without|free of|free from|(?:does not|doesn't) (?:contain|have)|"
    r"(?:not|cannot|\w+n't|unable to) (?:find|see|detect|identify)|not|(?:is|are)n't) "
    rf"(?:an? |any )?(?:\w+ )?{_FAULTS}|error[- ]free|(?:not|(?:is|are)n't) {_WRONGLY}|"
    rf"nothing (?:\w+ )?(?:{_WRONGLY}|inconsistent)|"
    r"(?:has_|is_)?(?:errors?|mistakes?)(?: (?:present|found|detected|identified))?"
    r"[\"'*]*\s*[:=?]\s*[\"'*]*(?:none|no|0|false)[\"'*]*(?=\s*(?:[.;}\n]|$))|"
    r"(?<!the )correct(?!\w| the\b| it\b| this\b)|"
    r"(?<!in)appropriate\b|(?<!in)accurate\b|consistent(?= with)|agrees?\b"
)
_ERROR = (
    rf"(?:not|\w+n't) (?:\w+ )?{_SOUNDLY}|incorrect|inappropriate|"
    r"inaccurate|inconsistent|unnecessary|overtreatment|(?:has_|is_)?errors?\b|mistakes?\b|"
    r"mistaken|wrong\b|discrepanc\w+|contradict\w*|correct (?:the|it|this)\b|"
    r"does(?: not|n't) (?:agree|match)|should (?:read|say|be corrected)"
)
_FIRST = re.compile(
    r"(?i)\W*(?:(?:verdict|answer|determination|assessment|result|output|status)\W+)?"
    r"(?:(?P<yes>yes)|(?P<no>no))\b(?! (?:\w+ )?(?:error|mistake|discrepanc|evidence))"
)
_VERDICT = re.compile(rf"(?i)\b(?:(?P<correct>{_CORRECT})|(?P<error>{_ERROR}))")
_SENTENCE_END = re.compile(r"[.!\n]")
_SOUND = {"none", "no", "no error", "correct", "normal", "0", "0.0", "false", "n"}
_EMPTY = {"", "nan", "null", "n/a"}
"""What a table has where nothing is known: no label, and of a type of error that there is none."""
_IMPRESSION = re.compile(r"(?i)\b(?:impression|conclusion)\b\W*:")
_TREATMENT = re.compile(r"(?i)\b(?:prescribed treatment|treatment|plan)\b\W*:")
_NORMAL = re.compile(
    r"(?i)\b(?:normal|unremarkable|negative|benign|clear|no (?:evidence|sign|acute|significant)|"
    r"without (?:abnormality|evidence))\b"
)  # fmt: skip
_ACTIVE = re.compile(
    r"(?i)\b(?:surg\w+|resection|chemotherapy|radiation|radiotherapy|biopsy|antibiotics?|steroids?|"
    r"intubat\w+|ventilat\w+|amputation|\w+ectomy|\w+tomy|transplant\w*|\d+ ?mg|remdesivir|"
    r"immunotherapy)\b"
)  # fmt: skip
_OTHER = {"left": "right", "right": "left"}


def read_verdict(answer: str) -> Verdict | None:
    """What an answer says first: that there is an error, or none; None where it says neither.

    A yes or no is of whether there is an error, but where its own sentence says which: "No, it is
    not correct".
    """
    answer = answer.replace("’", "'")
    if first := _FIRST.match(answer):
        end = _SENTENCE_END.search(answer, first.end())
        said = _VERDICT.search(answer, first.end(), end.start() if end else len(answer))
        return _verdict_of(said) or ("error" if first["yes"] else "correct")
    return _verdict_of(_VERDICT.search(answer))


def _verdict_of(found: re.Match[str] | None) -> Verdict | None:
    return None if not found else "correct" if found["correct"] else "error"


def target_of(item: Example) -> Verdict | None:
    """Whether a row's report has an error: its target, its metadata, else its answer says so."""
    if item.target and item.target.lower() in ("error", "correct"):
        return "error" if item.target.lower() == "error" else "correct"
    for key in ("has_error", "is_error", "error_type"):
        said = str(item.metadata.get(key, "")).strip().lower()
        if item.metadata.get(key) is not None and (said not in _EMPTY or key == "error_type"):
            return "correct" if said in _SOUND | _EMPTY else "error"
    return read_verdict(item.completion)


def guess_by_rules(text: str) -> Verdict:
    """What plain rules make of the text alone: a yardstick beside a model, and no check.

    An error: an impression says what the findings deny, denies what they say, or names the other
    side; or a treatment is active where the findings are normal.
    """
    if split := _TREATMENT.search(text):
        is_active = _ACTIVE.search(text, split.end()) and _NORMAL.search(text, 0, split.start())
        return "error" if is_active else "correct"
    split = _IMPRESSION.search(text)
    if not split:
        return "correct"
    found, said = _findings(text[: split.start()]), _findings(text[split.end() :])
    return (
        "error" if any(_differ(found.get(name), own) for name, own in said.items()) else "correct"
    )


def _findings(text: str) -> dict[str, set[tuple[bool, str | None]]]:
    """The names in a text that its vocabulary knows: whether each is denied, and on which side."""
    reading, found = read(text), dict[str, set[tuple[bool, str | None]]]()
    for each in find_entities(reading):
        context = context_of(reading, each.first, each.last)
        words = [word for word in reading.words[each.first : each.last] if word not in _OTHER]
        found.setdefault(" ".join(words), set()).add((context.negated, context.laterality))
    return found


def _differ(found: set[tuple[bool, str | None]] | None, said: set[tuple[bool, str | None]]) -> bool:
    """Whether what is said of a name contradicts what was found."""
    if not found:
        return False
    present = {side for is_denied, side in found if not is_denied}
    for is_denied, side in said:
        if is_denied and side in present:
            return True
        if not is_denied and not present:
            return True
        if not is_denied and side in _OTHER and present == {_OTHER[side]}:
            return True
    return False
