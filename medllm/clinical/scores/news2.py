"""NEWS2, the National Early Warning Score of the Royal College of Physicians (2017)."""

from decimal import Decimal

from medllm.clinical.scores.result import Grade, Scale, Score
from medllm.clinical.scores.values import Number, Unscorable, age, flag
from medllm.clinical.scores.vitals import Vitals

YOUNGEST_YEARS = 16
"""RCP 2017, recommendations 1 and 2: not for children, nor in pregnancy."""

# RCP 2017, chart 1: (the highest value of a band, its points), and the points above the last one
_RESPIRATION = ((8, 3), (11, 1), (20, 0), (24, 2)), 3
_SCALE_1 = ((91, 3), (93, 2), (95, 1)), 0
_SCALE_2_ON_AIR = ((83, 3), (85, 2), (87, 1)), 0
_SCALE_2_ON_OXYGEN = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2)), 3
_SYSTOLIC = ((90, 3), (100, 2), (110, 1), (219, 0)), 3
_PULSE = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2)), 3
_TEMPERATURE = ((Decimal("35.0"), 3), (Decimal("36.0"), 1), (Decimal("38.0"), 0),
                (Decimal("39.0"), 1)), 2  # fmt: skip
_Chart = tuple[tuple[tuple[int | Decimal, int], ...], int]

# RCP 2017, charts 2 (levels of response) and 4 (how often, and who)
ROUTINE = Grade(0, "low", "ward-based response: monitor at least 12-hourly")
LOW = Grade(
    1, "low",
    "ward-based response: monitor at least 4 to 6-hourly; a registered nurse assesses and decides "
    "on more frequent monitoring or escalation",
)  # fmt: skip
SINGLE_3 = Grade(
    3, "low-medium",
    "urgent ward-based response (a 3 in one parameter): monitor at least hourly; the nurse informs "
    "the medical team, who review and decide on escalation",
)  # fmt: skip
MEDIUM = Grade(
    5, "medium",
    "urgent response: monitor at least hourly; urgent assessment by a clinician or team with "
    "competencies in acute illness; care in an area with monitoring",
)  # fmt: skip
HIGH = Grade(
    7, "high",
    "emergency response: continuous monitoring of vital signs; emergency assessment by a team at "
    "the level of a specialist registrar or above, with critical-care competencies and airway "
    "skills; consider level 2 or 3 care",
)  # fmt: skip
NEWS2 = Scale(
    "NEWS2", (ROUTINE, LOW, MEDIUM, HIGH),
    "Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, charts 1, 2 and 4",
)  # fmt: skip


def news2(
    vitals: Vitals,
    *,
    spo2_scale: int = 1,
    age_years: Number | None = None,
    pregnant: bool | None = None,
) -> Score:
    """The score of an adult, 0 to 20, with the level of response.

    `spo2_scale` is 2 only where a clinician has set a target of 88 to 92 % for a patient with
    hypercapnic respiratory failure; on it, 93 % and more score 0 on air. What is missing is
    counted as the least it can be, so that the total is "at least" that.

    Raises:
        Unscorable: below 16 years, in pregnancy, or with a value that no patient can have.
    """
    if spo2_scale not in (1, 2):
        raise Unscorable("SpO2 scale: neither 1 nor 2", "give 1 or 2")
    age(age_years, YOUNGEST_YEARS)
    if flag("pregnant", pregnant):
        message = "NEWS2 is not meant for pregnancy"
        raise Unscorable(message, "use a maternity early warning chart")
    altered, oxygen = vitals.is_altered(), vitals.oxygen()
    points = {
        "respiratory rate": _points(vitals.breaths(), _RESPIRATION),
        "oxygen saturation": _points(vitals.saturation(), _saturation_chart(spo2_scale, oxygen)),
        "air or oxygen": None if oxygen is None else 2 * oxygen,
        "systolic blood pressure": _points(vitals.systolic(), _SYSTOLIC),
        "pulse": _points(vitals.beats(), _PULSE),
        "consciousness": None if altered is None else 3 * altered,
        "temperature": _points(vitals.temperature(), _TEMPERATURE),
    }
    assumed = () if age_years is not None else ("age not given: 16 years or more is assumed",)
    return NEWS2.add_up(points, *assumed, least=SINGLE_3 if 3 in points.values() else None)


def _saturation_chart(scale: int, oxygen: bool | None) -> _Chart:
    """The chart in use; where it is not known whether oxygen is given, that of air, the least."""
    if scale == 1:
        return _SCALE_1
    return _SCALE_2_ON_OXYGEN if oxygen else _SCALE_2_ON_AIR


def _points(value: Decimal | None, chart: _Chart) -> int | None:
    bands, above = chart
    if value is None:
        return None
    return next((points for highest, points in bands if value <= highest), above)
