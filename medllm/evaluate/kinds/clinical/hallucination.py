"""Hallucination: whether an answer keeps to the vital signs that its prompt gives."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

from medllm.clinical.measurements.fidelity import (
    WRONG,
    Outcome,
    StatedVital,
    check_vitals,
    given_vitals,
)
from medllm.data.example import Example
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, Generated, ratio_of, share_of


class Hallucination(Generated):
    """Answers about vital signs, of which none may be invented and none altered."""

    measure = "passed"
    needs_reference = False
    reads_english = True
    headings = {
        "passed": "passed", "altered": "with altered", "invented": "with invented",
        "silent": "with none", "retention": "signs restated",
    }  # fmt: skip

    def lacking(self, item: Example) -> str | None:
        """A prompt with vital signs."""
        return super().lacking(item) or (None if given_vitals(asked(item)) else "no vital signs")

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """What the answer states of the signs; it passes where it states some, all of them so."""
        return judge_vitals(answered)

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """The share of answers that pass, and of those with a wrong sign or none; by sign, too."""
        return sum_up_vitals(records)


def asked(item: Example) -> str:
    """What the model is told of the patient: all that stands in the prompt."""
    return "\n".join(message.content for message in item.prompt)


def judge_vitals(answered: Answered) -> Record:
    """The signs that an answer states, by outcome and by sign, and where the wrong ones stand."""
    given = given_vitals(asked(answered.item))
    stated = check_vitals(asked(answered.item), answered.whole)
    counts = Counter[str](each.outcome for each in stated)
    restated = {each.attribute for each in stated if each.outcome == "kept"} & given
    is_true = not (counts["altered"] or counts["invented"])
    return {
        "passed": bool(restated) and is_true,
        "vitals_true": is_true if stated else None,
        **{name: counts[name] > 0 for name in WRONG},
        "silent": not stated,
        "given": len(given),
        "restated": len(restated),
        "signs": {
            name: _by_outcome(stated, name) for name in sorted({s.attribute for s in stated})
        },
        "spans": [[each.begin, each.end, each.outcome] for each in stated if each.outcome in WRONG],
    }


def sum_up_vitals(records: Sequence[Record]) -> dict[str, Any]:
    """Shares of answers, each with its interval, and the statements of each sign."""
    signs: dict[str, Counter[str]] = {}
    for record in records:
        for name, counts in record["signs"].items():
            signs.setdefault(name, Counter()).update(counts)
    found: dict[str, Any] = {}
    for key in ("passed", *WRONG, "silent"):
        found |= share_of(records, key)
    by_sign = {
        name: {each: counts[each] for each in get_args(Outcome)} for name, counts in signs.items()
    }
    return {**found, **ratio_of(records, "retention", "restated", "given"),
            "by_sign": dict(sorted(by_sign.items()))}  # fmt: skip


def _by_outcome(stated: Sequence[StatedVital], sign: str) -> dict[str, int]:
    return dict(Counter(each.outcome for each in stated if each.attribute == sign))
