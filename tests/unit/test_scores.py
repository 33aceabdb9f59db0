"""The other scores and the formulas: every criterion by itself, worked examples, refusals."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm.clinical import scores
from medllm.clinical.scores import (
    BleedingRisk,
    EmbolismSigns,
    StrokeRisk,
    Unscorable,
    Vitals,
    cha2ds2_vasc,
    crb65,
    curb65,
    gcs,
    has_bled,
    qsofa,
    sirs,
    wells_pe,
)

WELL = Vitals(
    respiratory_rate=16, systolic_mmhg=120, diastolic_mmhg=75, pulse=75, consciousness="A",
    temperature_c=36.8,
)  # fmt: skip


def having(**values: Any) -> Vitals:
    return Vitals(**{**{f: getattr(WELL, f) for f in Vitals.__slots__}, **values})


@pytest.mark.parametrize(
    ("values", "gcs_points", "total"),
    [
        ({}, None, 0),
        ({"respiratory_rate": 21}, None, 0),
        ({"respiratory_rate": 22}, None, 1),
        ({"systolic_mmhg": 101}, None, 0),
        ({"systolic_mmhg": 100}, None, 1),
        ({}, 15, 0),
        ({}, 14, 1),
        ({"consciousness": "C"}, None, 1),
        ({"consciousness": "C"}, 15, 1),
        ({"respiratory_rate": 26, "systolic_mmhg": 95}, None, 2),
        ({"respiratory_rate": 26, "systolic_mmhg": 95}, 13, 3),
    ],
)
def test_qsofa(values: dict[str, Any], gcs_points: int | None, total: int) -> None:
    score = qsofa(having(**values), gcs=gcs_points)

    assert (score.total, score.missing) == (total, ())
    assert score.band == ("positive" if total >= 2 else "negative")


def test_a_qsofa_without_mentation_is_at_least_two() -> None:
    score = qsofa(having(respiratory_rate=26, systolic_mmhg=95, consciousness=None))

    assert (score.total, score.missing, score.band) == (2, ("altered mentation",), "positive")


@pytest.mark.parametrize(
    ("values", "others", "total"),
    [
        ({}, {"white_cells": 7}, 0),
        ({"temperature_c": 38.0}, {"white_cells": 12}, 0),
        ({"temperature_c": 38.1}, {"white_cells": 12.1}, 2),
        ({"temperature_c": 36.0}, {"white_cells": 4}, 0),
        ({"temperature_c": 35.9}, {"white_cells": 3.9}, 2),
        ({"pulse": 90}, {"white_cells": 7, "bands_percent": 10}, 0),
        ({"pulse": 91}, {"white_cells": 7, "bands_percent": 11}, 2),
        ({"respiratory_rate": 20}, {"white_cells": 7, "paco2_mmhg": 32}, 0),
        ({"respiratory_rate": 21}, {"white_cells": 7}, 1),
        ({}, {"white_cells": 7, "paco2_mmhg": 31}, 1),
    ],
)
def test_sirs(values: dict[str, Any], others: dict[str, float], total: int) -> None:
    score = sirs(having(**values), **others)

    assert (score.total, score.missing) == (total, ())
    assert sirs(having(**values)).missing == ("white cells",)


@pytest.mark.parametrize(
    ("values", "others", "total"),
    [
        ({}, {"urea_mmol_l": 7, "age_years": 64.9}, 0),
        ({}, {"urea_mmol_l": 7.1, "age_years": 65}, 2),
        ({"respiratory_rate": 29}, {"urea_mmol_l": 5, "age_years": 40}, 0),
        ({"respiratory_rate": 30}, {"urea_mmol_l": 5, "age_years": 40}, 1),
        ({"systolic_mmhg": 90}, {"urea_mmol_l": 5, "age_years": 40}, 0),
        ({"systolic_mmhg": 89}, {"urea_mmol_l": 5, "age_years": 40}, 1),
        ({"diastolic_mmhg": 61}, {"urea_mmol_l": 5, "age_years": 40}, 0),
        ({"diastolic_mmhg": 60}, {"urea_mmol_l": 5, "age_years": 40}, 1),
        ({}, {"urea_mmol_l": 5, "age_years": 40, "confusion": True}, 1),
        ({"consciousness": "C"}, {"urea_mmol_l": 5, "age_years": 40}, 1),
        ({"consciousness": "C"}, {"urea_mmol_l": 5, "age_years": 40, "confusion": False}, 0),
        ({}, {"bun_mg_dl": 19.6, "age_years": 40}, 0),
        ({}, {"bun_mg_dl": 19.7, "age_years": 40}, 1),
    ],
)
def test_curb65(values: dict[str, Any], others: dict[str, Any], total: int) -> None:
    score = curb65(having(**values), **others)

    assert (score.total, score.missing) == (total, ())
    assert score.band == ("low" if total < 2 else "intermediate" if total == 2 else "high")


def test_a_bun_between_the_two_printed_cuts_is_said() -> None:
    said = [curb65(WELL, bun_mg_dl=bun, age_years=40).notes[1:] for bun in (19, 19.5, 20, 20.5)]

    assert [len(notes) for notes in said] == [0, 1, 1, 0]


def test_crb65_is_curb65_without_urea_and_says_that_its_bands_are_not_verified() -> None:
    score = crb65(having(respiratory_rate=32), age_years=80)

    assert (score.total, score.band, score.verified) == (2, "intermediate", False)
    assert crb65(having(diastolic_mmhg=None)).missing == ("blood pressure", "age")
    assert crb65(having(systolic_mmhg=80, diastolic_mmhg=None)).points["blood pressure"] == 1


NO_STROKE_RISK = dict.fromkeys(
    ["heart_failure", "hypertension", "diabetes", "stroke", "vascular_disease"], False
)


@pytest.mark.parametrize(
    ("values", "total", "band"),
    [
        ({"age_years": 64, "sex": "male"}, 0, "low"),
        ({"age_years": 65, "sex": "male"}, 1, "intermediate"),
        ({"age_years": 75, "sex": "male"}, 2, "high"),
        ({"age_years": 50, "sex": "female"}, 1, "low"),
        ({"age_years": 50, "sex": "F", "diabetes": True}, 2, "intermediate"),
        ({"age_years": 50, "sex": "female", "diabetes": True, "hypertension": True}, 3, "high"),
        ({"age_years": 50, "sex": "m", "stroke": True}, 2, "high"),
        ({"age_years": 80, "sex": "f", **dict.fromkeys(NO_STROKE_RISK, True)}, 9, "high"),
    ],
)
def test_cha2ds2_vasc(values: dict[str, Any], total: int, band: str) -> None:
    score = cha2ds2_vasc(StrokeRisk(**{**NO_STROKE_RISK, **values}))

    assert (score.total, score.band, score.missing) == (total, band, ())


def test_what_is_not_known_of_a_stroke_risk_is_missing() -> None:
    score = cha2ds2_vasc(StrokeRisk(age_years=80, sex="male", stroke=True))

    assert (score.total, len(score.missing)) == (4, 4)
    assert score.response == "at least: oral anticoagulation is indicated"
    assert cha2ds2_vasc(StrokeRisk()).band == "not scored"


def test_has_bled() -> None:
    flags = [name for name in BleedingRisk.__slots__ if name != "age_years"]
    none = dict.fromkeys(flags, False)

    assert has_bled(BleedingRisk(age_years=65, **none)).total == 0
    assert has_bled(BleedingRisk(age_years=66, **none)).total == 1
    for name in flags:
        assert has_bled(BleedingRisk(age_years=50, **{**none, name: True})).total == 1, name
    every = has_bled(BleedingRisk(age_years=70, **dict.fromkeys(flags, True)))
    assert (every.total, every.band) == (9, "high")


def test_wells() -> None:
    points = {"signs_of_dvt": 3, "pe_as_likely_as_any_other": 3, "heart_rate_above_100": 1.5,
              "immobilised_or_operated": 1.5, "previous_dvt_or_pe": 1.5, "haemoptysis": 1,
              "malignancy": 1}  # fmt: skip
    none = dict.fromkeys(EmbolismSigns.__slots__, False)

    for name, expected in points.items():
        score = wells_pe(EmbolismSigns(**{**none, name: True}))
        assert (score.total, score.band) == (expected, "PE unlikely")
    four = {**none, "signs_of_dvt": True, "malignancy": True}
    assert wells_pe(EmbolismSigns(**four)).band == "PE unlikely"
    more = {**none, "signs_of_dvt": True, "heart_rate_above_100": True}
    assert wells_pe(EmbolismSigns(**more)).band == "PE likely"
    assert wells_pe(EmbolismSigns(**dict.fromkeys(none, True))).total == 12.5


def test_gcs() -> None:
    bands = {15: "mild", 13: "mild", 12: "moderate", 9: "moderate", 8: "severe", 3: "severe"}
    for eye in range(1, 5):
        for verbal in range(1, 6):
            for motor in range(1, 7):
                score = gcs(eye, verbal, motor)
                assert score.total == eye + verbal + motor
                assert score.band == bands.get(int(score.total), score.band)
    assert (gcs(4, "T", 6).total, gcs(4, "t", 6).band) == (10, "not graded")
    assert gcs(4, None, 6).missing == ("verbal",)
    for wrong in [
        (5, 5, 6),
        (0, 5, 6),
        (4, 6, 6),
        (4, 5, 7),
        (4, "x", 6),
        ("T", 5, 6),
        (4.5, 5, 6),
    ]:
        with pytest.raises(Unscorable, match="^GCS "):
            gcs(*wrong)  # type: ignore[arg-type]


WORKED = [
    (scores.egfr(0.9, "mg/dL", age_years=55, sex="female"), "75.5", "G2"),
    (scores.egfr(Decimal("79.56"), "micromol/L", age_years=55, sex="female"), "75.5", "G2"),
    (scores.egfr(1.0, "mg/dL", age_years=50, sex="male"), "91.7", "G1"),
    (scores.egfr(8, "mg/dL", age_years=70, sex="male"), "6.7", "G5"),
    # 59.468 and 14.498, whole 59 and 14: the stage is not that of what was rounded twice
    (scores.egfr(1.142, "mg/dL", age_years=94, sex="male"), "59.5", "G3a"),
    (scores.egfr(3.38, "mg/dL", age_years=65, sex="female"), "14.5", "G5"),
    (scores.cockcroft_gault(110, "micromol/L", age_years=70, weight_kg=75, sex="male"), "58.6", ""),
    (scores.cockcroft_gault(1, "mg/dL", age_years=60, weight_kg=72, sex="female"), "68.0", ""),
    (scores.adjusted_weight(120, 70), "90.0", ""),
    (scores.adjusted_weight(60, 70), "70.0", ""),
    (scores.bmi(70, 175, age_years=40), "22.9", "healthy weight"),
    (scores.bmi(54, 171, age_years=40), "18.5", "healthy weight"),
    (scores.bmi(53.9, 171, age_years=40), "18.4", "underweight"),
    (scores.bmi(90, 173, age_years=40), "30.1", "obese"),
    (scores.bmi(30, 130, age_years=9), "17.8", ""),
    (scores.mean_arterial_pressure(120, 80), "93.3", ""),
    (scores.mean_arterial_pressure(70, 50), "56.7", "inadequate"),
    (scores.pulse_pressure(120, 80), "40", ""),
    (scores.shock_index(115, 95), "1.21", ""),
    (scores.corrected_qt(400, 60), "400", ""),
    (scores.corrected_qt(400, 100), "516", ""),
    (scores.corrected_qt(400, 100, "Fridericia"), "474", ""),
    (scores.anion_gap(140, 104, 24), "12", ""),
    (scores.albumin_corrected_gap(12, 2), "17", ""),
    (scores.corrected_calcium(8.2, "mg/dL", 2.5), "9.4", ""),
    (scores.corrected_calcium(2.0, "mmol/L", 2.5), "2.3", ""),
    (scores.alveolar_gradient(0.21, 40, 90), "9.7", ""),
    (scores.neutrophil_count(2, 15, 5), "0.4", "severe neutropenia"),
    (scores.neutrophil_count(5, 50, 5), "2.75", ""),
    (scores.hba1c_percent(48), "6.5", ""),
]


@pytest.mark.parametrize(("computed", "value", "band"), WORKED, ids=lambda each: str(each))
def test_a_formula_gives_what_was_worked_out_by_hand(
    computed: scores.Computed, value: str, band: str
) -> None:
    assert (computed.value, computed.band) == (Decimal(value), band)
    assert computed.source


@given(st.decimals("0.2", "20", places=2), st.integers(18, 120), st.sampled_from(["f", "m"]))
def test_kidney_function_does_not_depend_on_the_unit(
    creatinine: Decimal, years: int, sex: str
) -> None:
    other = creatinine * Decimal("88.4")
    one = scores.egfr(creatinine, "mg/dL", age_years=years, sex=sex)
    two = scores.egfr(other, "micromol/L", age_years=years, sex=sex)

    assert abs(one.value - two.value) <= Decimal("0.1")


@given(st.integers(18, 120), st.sampled_from(["f", "m"]), st.lists(st.floats(0.2, 20), min_size=2))
def test_more_creatinine_is_never_a_better_kidney(
    years: int, sex: str, values: list[float]
) -> None:
    rates = [scores.egfr(v, "mg/dL", age_years=years, sex=sex).value for v in sorted(values)]

    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: scores.egfr(1, "mg/dL", age_years=17, sex="f"),
        lambda: scores.egfr(110, "mg/dL", age_years=50, sex="f"),
        lambda: scores.egfr(1, "mg/dL", age_years=50, sex="x"),
        lambda: scores.cockcroft_gault(1, "mg/dL", age_years=50, weight_kg=0, sex="m"),
        lambda: scores.bmi(70, 1.75),
        lambda: scores.mean_arterial_pressure(80, 120),
        lambda: scores.shock_index(80, 0),
        lambda: scores.corrected_qt(400, 60, "Hodges"),
        lambda: scores.anion_gap(14, 104, 24),
        lambda: scores.corrected_calcium(2.2, "g/L", 4),
        lambda: scores.alveolar_gradient(40, 40, 90),
        lambda: cha2ds2_vasc(StrokeRisk(diabetes="no")),  # type: ignore[arg-type]
        lambda: cha2ds2_vasc(StrokeRisk(age_years=-1)),
    ],
)
def test_what_cannot_be_is_refused(refused: Any) -> None:
    with pytest.raises(Unscorable):
        refused()
