"""What an answer says of NEWS2: its total, the points of each parameter, and how to respond.

The rules read English, and judge what is said, not what is meant; `docs/evaluate.md` has how often
they are right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from medllm.clinical.scores import Score, Unscorable
from medllm.clinical.scores.observations import read_news2
from medllm.evaluate.clinical.news2.points import stated_points
from medllm.evaluate.clinical.news2.response import NOTHING, stated_hours, stated_response
from medllm.evaluate.clinical.news2.total import stated_totals

MOST = {"air or oxygen": 2}
"""The most points of a parameter, where they are not 3 (RCP 2017, chart 1)."""
HIGH, MEDIUM = 7, 5
"""Totals from which RCP 2017, chart 4, asks for an emergency and for an urgent response."""
URGENT_POINTS = 3
"""So many points of one parameter ask for an urgent response, too."""
MOST_HOURS = 6
"""Between observations at a total of 1 to 4 (RCP 2017, chart 4); 12 hours are for a total of 0."""

Total = Literal["right", "wrong", "not stated", "possible", "not recomputed"]
Response = Literal["right", "under", "over", "not stated", "not recomputed"]


@dataclass(frozen=True, slots=True)
class AlertChecks:
    """What of an answer agrees with the score of the observations that it was given."""

    total: Total
    """`possible`: something is not given, and the stated total is within what it can be."""
    points: Mapping[str, bool]
    """Of each parameter whose points are stated: whether they are right."""
    unstated: tuple[str, ...]
    """The parameters that score points, of which the answer states none."""
    response: Response
    is_urgent: bool = False
    """Whether the score asks for more than the ward's routine."""
    scored: Mapping[str, float] = field(default_factory=dict)
    """The points of each parameter that has some."""
    reason: str = ""
    """Why the score cannot be recomputed."""


def check_alert(given: str, answer: str) -> AlertChecks:
    """Hold what an answer says of NEWS2 against the observations in the text that it was given."""
    if reason := why_not_scored(given):
        return AlertChecks("not recomputed", {}, (), "not recomputed", reason=reason)
    score = read_news2(given)
    stated = stated_points(answer)
    right = {
        name: found == {score.points[name]}
        for name, found in stated.items()
        if name in score.points
    }
    scored = {name: points for name, points in score.points.items() if points}
    unstated = tuple(name for name in scored if name not in right)
    return AlertChecks(
        _judge_total(answer, score), right, unstated, _judge_response(answer, score),
        is_urgent=_needed(score) > 1,
        scored=scored,
    )  # fmt: skip


def why_not_scored(given: str) -> str | None:
    """Why NEWS2 cannot be computed of the observations in a text; None where it can be."""
    try:
        return None if read_news2(given).points else "nothing that NEWS2 asks for"
    except Unscorable as problem:
        return f"no NEWS2: {problem.message}"


def needed_response(total: float, *, has_three: bool) -> int:
    """The response that a total asks for: 3 emergency, 2 urgent, 1 ward-based (RCP 2017)."""
    if total >= HIGH:
        return 3
    return 2 if total >= MEDIUM or has_three else 1


def _judge_total(answer: str, score: Score) -> Total:
    totals = stated_totals(answer)
    if not totals:
        return "not stated"
    if totals == {score.total}:
        return "right"
    most = score.total + sum(MOST.get(name, URGENT_POINTS) for name in score.missing)
    return "possible" if all(score.total <= each <= most for each in totals) else "wrong"


def _judge_response(answer: str, score: Score) -> Response:
    levels = stated_response(answer)
    if levels == NOTHING:
        return "not stated"
    needed = _needed(score)
    most = 3 if score.missing else needed
    is_rare = levels == (1, 1) and score.total >= 1 and (stated_hours(answer) or 0) > MOST_HOURS
    if levels[1] < needed or is_rare:
        return "under"
    return "over" if levels[0] > most else "right"


def _needed(score: Score) -> int:
    return needed_response(score.total, has_three=URGENT_POINTS in score.points.values())
