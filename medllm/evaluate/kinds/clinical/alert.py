"""Alerts: what an answer says of a patient's early warning score, and whether it is so."""

from collections.abc import Sequence
from typing import Any

from medllm.clinical.measurements.fidelity import given_vitals
from medllm.data.example import Example
from medllm.evaluate.clinical.alerts import AlertChecks, check_alert, why_not_scored
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.clinical.hallucination import asked, judge_vitals, sum_up_vitals
from medllm.evaluate.kinds.generated import Answered, ratio_of, share_of
from medllm.evaluate.kinds.written.free_text import FreeText
from medllm.measures.intervals import majority_share

ACCEPTED = ("right", "possible")
"""Totals that are not wrong; with a sign missing, several are possible."""


class Alert(FreeText):
    """Explanations of NEWS2: total, points, response, and no vital sign altered or invented.

    They are scored by their references, too, as any free text.
    """

    measure = "passed"
    reads_english = True
    headings = {
        "passed": "passed", "total_right": "total", "points_right": "points",
        "response_right": "response", "vitals_true": "vital signs true", "exact": "exact",
        "f1": "f1",
    }  # fmt: skip

    def lacking(self, item: Example) -> str | None:
        """Observations that NEWS2 can be computed of."""
        if lacks := super().lacking(item):
            return lacks
        return "no vital signs" if not given_vitals(asked(item)) else why_not_scored(asked(item))

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """What the answer says, held against the score; it passes where all of it is right."""
        vitals = judge_vitals(answered)
        found = check_alert(asked(answered.item), answered.whole)
        right = sum(found.points.values())
        is_right = found.total in ACCEPTED and found.response == "right"
        return {
            **super().judge(answered, asking),
            **vitals,
            "passed": is_right
            and right == len(found.points) > 0
            and vitals["vitals_true"] is not False,
            "total": found.total,
            "total_right": found.total in ACCEPTED,
            "points_stated": len(found.points),
            "points_right_of_stated": right,
            "points_wrong": sorted(name for name, is_so in found.points.items() if not is_so),
            "points_unstated": list(found.unstated),
            "scored": dict(found.scored),
            "response": found.response,
            "response_right": found.response == "right",
            "under_escalated": _is_under(found),
        }

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """Shares of answers that pass, and are right in each part, with their intervals.

        `points_right` is the share of all parameters whose points are stated; `under_escalated`
        the share of answers that ask for less than the score does, or for nothing. An explanation
        that gives each patient the most frequent points, mostly none, passes `majority` of them.
        """
        scored = [str(sorted(record["scored"].items())) for record in records]
        found = {**super().sum_up(records), **sum_up_vitals(records)}
        for key in ("total_right", "response_right", "under_escalated", "vitals_true"):
            found |= share_of(records, key)
        return {**found, "majority": majority_share(scored),
                **ratio_of(records, "points_right", "points_right_of_stated",
                           "points_stated")}  # fmt: skip


def _is_under(found: AlertChecks) -> bool:
    """Whether less is asked for than needed; to ask for nothing is less than anything urgent."""
    return found.response == "under" or (found.response == "not stated" and found.is_urgent)
