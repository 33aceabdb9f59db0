"""qSOFA and SIRS."""

from decimal import Decimal

from medllm.clinical.scores.result import Grade, Scale, Score, points_if
from medllm.clinical.scores.values import Number, possible
from medllm.clinical.scores.vitals import Vitals

QSOFA = Scale(
    "qSOFA",
    (
        Grade(0, "negative", "does not rule sepsis out"),
        Grade(2, "positive", "look for organ dysfunction and escalate care"),
    ),
    "Sepsis-3: Singer et al., JAMA 2016;315:801",
    notes=("some tables print SBP < 100 mmHg and GCS < 13; Sepsis-3 says <= 100 and < 15",),
)
SIRS = Scale(
    "SIRS",
    (Grade(0, "negative", "does not rule infection out"), Grade(2, "positive", "look for a cause")),
    "ACCP/SCCM consensus: Bone et al., Chest 1992;101:1644",
    notes=("a British variant asks for more than 38.3 °C and adds glucose above 7.7 mmol/L "
           "without diabetes and new confusion",),
)  # fmt: skip


def qsofa(vitals: Vitals, *, gcs: Number | None = None) -> Score:
    """0 to 3: breaths >= 22 a minute, systolic <= 100 mmHg, altered mentation (GCS < 15)."""
    breaths, systolic, altered = vitals.breaths(), vitals.systolic(), vitals.is_altered()
    if gcs is not None:
        altered = bool(altered) or possible("Glasgow Coma Scale", gcs) < 15
    return QSOFA.add_up({
        "respiratory rate": points_if(None if breaths is None else breaths >= 22),
        "systolic blood pressure": points_if(None if systolic is None else systolic <= 100),
        "altered mentation": points_if(altered),
    })  # fmt: skip


def sirs(
    vitals: Vitals,
    *,
    paco2_mmhg: Number | None = None,
    white_cells: Number | None = None,
    bands_percent: Number | None = None,
) -> Score:
    """0 to 4 criteria; `white_cells` in 10^9/L, `bands_percent` of immature ones.

    Two criteria have a second way to be met (PaCO2 < 32 mmHg, more than 10 % bands). They are
    missing only where neither value is given.
    """
    temperature, beats = vitals.temperature(), vitals.beats()
    carbon = _given("arterial pCO2", paco2_mmhg)
    cells, bands = (
        _given("white cell count", white_cells),
        _given("neutrophil share", bands_percent),
    )
    return SIRS.add_up({
        "temperature": points_if(_outside(temperature, Decimal(36), Decimal(38))),
        "heart rate": points_if(_outside(beats, None, Decimal(90))),
        "respiratory rate or PaCO2": points_if(
            _either(_outside(vitals.breaths(), None, Decimal(20)), _outside(carbon, Decimal(32)))
        ),
        "white cells": points_if(
            _either(_outside(cells, Decimal(4), Decimal(12)), _outside(bands, None, Decimal(10)))
        ),
    })  # fmt: skip


def _given(what: str, value: Number | None) -> Decimal | None:
    return None if value is None else possible(what, value)


def _outside(
    value: Decimal | None, low: Decimal | None = None, high: Decimal | None = None
) -> bool | None:
    if value is None:
        return None
    return (low is not None and value < low) or (high is not None and value > high)


def _either(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None and other is None else bool(one) or bool(other)
