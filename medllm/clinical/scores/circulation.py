"""Pressures, the shock index, and the QT interval corrected for the heart rate."""

from decimal import Decimal

from medllm.clinical.scores.result import Computed
from medllm.clinical.scores.values import Number, Unscorable, exact, positive, possible, rounded
from medllm.clinical.scores.vitals import Vitals


def mean_arterial_pressure(systolic_mmhg: Number, diastolic_mmhg: Number) -> Computed:
    """(SBP + 2 DBP) / 3, in mmHg."""
    high, low = _pressures(systolic_mmhg, diastolic_mmhg)
    value = rounded((high + 2 * low) / 3, "0.1")
    band = "inadequate" if value < 60 else "low" if value < 70 else ""
    note = "70 to 100 mmHg is usual; another text prints 70 to 110"
    return Computed("mean arterial pressure", value, "mmHg",
                    "textbook formula; qammunity.org 20424589: below 60 inadequate", band,
                    notes=(note,))  # fmt: skip


def pulse_pressure(systolic_mmhg: Number, diastolic_mmhg: Number) -> Computed:
    """SBP - DBP, in mmHg."""
    high, low = _pressures(systolic_mmhg, diastolic_mmhg)
    return Computed("pulse pressure", high - low, "mmHg", "definition")


def shock_index(heart_rate: Number, systolic_mmhg: Number) -> Computed:
    """Heart rate / systolic pressure; sources disagree on its upper normal limit, 0.7 or 0.9."""
    beats = possible("heart rate", heart_rate)
    systolic = positive("systolic blood pressure", systolic_mmhg, 320)
    value = rounded(beats / systolic, "0.01")
    return Computed("shock index", value, "ratio", "definition",
                    notes=("upper normal limit: 0.7 in some sources, 0.9 in others",))  # fmt: skip


def corrected_qt(qt_ms: Number, heart_rate: Number, formula: str = "Bazett") -> Computed:
    """The QT interval in ms, corrected by `Bazett` (QT / RR^(1/2)) or `Fridericia` (QT / RR^(1/3)).

    RR is 60 / heart rate, in seconds. The formulas are the textbook ones (Bazett, Heart 1920;7:353;
    Fridericia, Acta Med Scand 1920;53:469) and were not read again: `verified` is false.
    """
    roots = {"bazett": 2, "fridericia": 3}
    if formula.lower() not in roots:
        raise Unscorable("formula: unknown", "give 'Bazett' or 'Fridericia'")
    qt, beats = positive("QT interval", qt_ms, 900), positive("heart rate", heart_rate, 350)
    value = float(qt) / (60 / float(beats)) ** (1 / roots[formula.lower()])
    name = f"QTc ({formula.title()})"
    return Computed(name, rounded(exact(name, value)), "ms", "Bazett 1920; Fridericia 1920",
                    verified=False)  # fmt: skip


def _pressures(systolic_mmhg: Number, diastolic_mmhg: Number) -> tuple[Decimal, Decimal]:
    """Both, exact; Vitals refuses a diastolic above the systolic."""
    Vitals(systolic_mmhg=systolic_mmhg, diastolic_mmhg=diastolic_mmhg).systolic()
    return exact("systolic", systolic_mmhg), exact("diastolic", diastolic_mmhg)
