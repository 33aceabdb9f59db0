"""What an early warning says, computed anew from the observations: no model is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medllm.clinical.scores import Score, Unscorable, Vitals, news2, qsofa
from medllm.serve.wire import ApiError

OXYGEN, SATURATION = "air or oxygen", "oxygen saturation"
_STRICT = ConfigDict(
    extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
)
EXTREME = {
    "respiratory_rate": (4, "respiratory rate"), "spo2_percent": (50, "oxygen saturation"),
    "systolic_mmhg": (40, "systolic blood pressure"), "pulse": (20, "pulse"),
}  # fmt: skip
"""Below these a sign is that of an arrest, of a sensor that is off, or in another unit: NEWS2 has 3
points for it, and would so ask for an hourly look alone. Chosen by us, from no guideline."""
FIELDS = {
    "respiratory rate": "vitals.respiratory_rate",
    "oxygen saturation": "vitals.spo2_percent",
    "systolic blood pressure": "vitals.systolic_mmhg",
    "diastolic blood pressure": "vitals.diastolic_mmhg",
    "blood pressure": "vitals.diastolic_mmhg",
    "heart rate": "vitals.pulse",
    "body temperature": "vitals.temperature_c",
    "consciousness": "vitals.consciousness",
    "age": "age_years",
    "NEWS2 is not meant for pregnancy": "pregnant",
}
"""What begins the message of a value that cannot be scored, and the field that holds it."""
CONFIDENCE = (
    "the share of the seven NEWS2 parameters that were given; not a probability of being right"
)
LIMITS = "computed from the values as they were sent; a safety net, no medical device"


class Observations(BaseModel):
    """What was observed; what is left out is not known, and never taken for normal."""

    model_config = _STRICT

    respiratory_rate: float | None = None
    """Breaths a minute."""
    spo2_percent: float | None = None
    """Oxygen saturation in percent."""
    on_oxygen: bool | None = None
    """Whether any supplemental oxygen is given."""
    systolic_mmhg: float | None = None
    """Systolic blood pressure."""
    diastolic_mmhg: float | None = None
    """Diastolic blood pressure; no score needs it, and it cannot be above the systolic one."""
    pulse: float | None = None
    """Beats a minute."""
    temperature_c: float | None = None
    """Degrees Celsius."""
    consciousness: str | None = Field(default=None, max_length=40)
    """A, C, V, P or U, or its word: alert, new confusion, voice, pain, unresponsive."""


class StatedScores(BaseModel):
    """Scores as the alert states them."""

    model_config = _STRICT

    news2: float | None = None
    """From 0 to 20."""
    qsofa: float | None = None
    """From 0 to 3."""


class AlertRequest(BaseModel):
    """The body of `POST /v1/alerts/explain`."""

    model_config = _STRICT

    vitals: Observations
    """What was observed."""
    scores: StatedScores = StatedScores()
    """What is stated already; a wrong one is named."""
    spo2_scale: Literal[1, 2] = 1
    """2 only where a clinician has set a target of 88 to 92 % (hypercapnic failure)."""
    age_years: float | None = None
    """NEWS2 is not meant for patients below 16 years."""
    pregnant: bool | None = None
    """NEWS2 is not meant for pregnancy."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A score as it was stated, beside what the observations give."""

    value: float
    agrees: bool | None
    """None where what is missing decides."""
    told: str


def explain_alert(asked: AlertRequest) -> dict[str, Any]:
    """The scores of the observations, what they mean, and whether those stated agree.

    Raises:
        ApiError: a value that no patient can have, a child, or a pregnancy; names the field.
    """
    try:
        main, second = _score(asked)
    except Unscorable as problem:
        field = FIELDS.get(problem.message.partition(":")[0])
        raise ApiError(400, f"{problem.message}; {problem.fix}", param=field) from problem
    told = ((main, asked.scores.news2), (second, asked.scores.qsofa))
    stated = [
        (score, None if value is None else _compare(score, value, asked)) for score, value in told
    ]
    verdicts = [verdict for _, verdict in stated if verdict]
    extreme = [*_extreme(asked.vitals)]
    text = [*extreme, *_explain(main, asked), *(each.told for each in verdicts)]
    return {
        "explanation": " ".join(text),
        "confidence": round(len(main.points) / (len(main.points) + len(main.missing)), 3),
        "confidence_means": CONFIDENCE,
        "warnings": [*extreme, *(each.told for each in verdicts if each.agrees is False)],
        "scores": [_told(score, verdict) for score, verdict in stated],
        "limits": LIMITS,
    }


def _score(asked: AlertRequest) -> tuple[Score, Score]:
    """NEWS2 and qSOFA."""
    vitals = Vitals(**asked.vitals.model_dump())
    main = news2(
        vitals, spo2_scale=asked.spo2_scale, age_years=asked.age_years, pregnant=asked.pregnant
    )
    return main, qsofa(vitals)


def _extreme(vitals: Observations) -> Iterator[str]:
    """What cannot wait for a score."""
    for name, (least, title) in EXTREME.items():
        value = getattr(vitals, name)
        if value is not None and value < least:
            yield (
                f"A {title} of {value:g} is that of an arrest, or of a sensor that is off, or has "
                "another unit: see the patient at once."
            )


def _most(score: Score, asked: AlertRequest) -> float:
    """The most that a score may be, whatever is missing."""
    most = score.total + sum(_most_points(score, each) for each in score.missing)
    if asked.spo2_scale == 2 and OXYGEN in score.missing and SATURATION in score.points:
        most += 3 - score.points[SATURATION]  # with oxygen, another chart holds
    return most


def _compare(score: Score, value: float, asked: AlertRequest) -> Stated:
    most = _most(score, asked)
    if value < score.total or value > most:
        given = f"{score.total:g}" + (f" to {most:g}" if score.missing else "")
        told = f"The stated {score.name} of {value:g} is wrong: these observations give {given}."
        return Stated(value, False, told)
    if score.missing:
        told = f"The stated {score.name} of {value:g} cannot be checked: something is missing."
        return Stated(value, None, told)
    return Stated(value, True, f"The stated {score.name} of {value:g} is right.")


def _most_points(score: Score, parameter: str) -> int:
    if score.name != "NEWS2":
        return 1
    return 2 if parameter == OXYGEN else 3


def _explain(score: Score, asked: AlertRequest) -> Iterator[str]:
    yield f"{score}."
    if score.points and score.missing:
        yield f"With what is missing it may be up to {_most(score, asked):g}."
    if score.points:
        scored = {name: each for name, each in score.points.items() if each}
        told = ", ".join(f"{name} {each:g}" for name, each in scored.items())
        yield f"Points: {told}; the rest of what is given scores 0." if told else "All score 0."
    yield f"{score.response[:1].upper()}{score.response[1:]}."
    yield from (f"{note[:1].upper()}{note[1:]}." for note in score.notes)


def _told(score: Score, stated: Stated | None) -> dict[str, Any]:
    return {
        "name": score.name,
        "total": score.total,
        "is_least": bool(score.missing),
        "points": dict(score.points),
        "missing": list(score.missing),
        "band": f"at least {score.band}" if score.points and score.missing else score.band,
        "response": score.response,
        "source": score.source,
        "verified": score.verified,
        "stated": stated.value if stated else None,
        "agrees": stated.agrees if stated else None,
    }
