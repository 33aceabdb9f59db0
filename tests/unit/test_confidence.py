"""Calibration error and risk by coverage, on numbers that can be reckoned by hand."""

import math

import pytest

from medllm.measures.confidence import confidence_of, measure_confidence


def test_confidence_is_the_share_of_the_likeliest_choice() -> None:
    assert confidence_of([math.log(0.03), math.log(0.01)]) == pytest.approx(0.75)
    assert confidence_of([-900.0, -900.0, -900.0, -900.0]) == pytest.approx(0.25)


def test_the_calibration_error_is_the_mean_distance_of_bins() -> None:
    sure = [0.95, 0.95, 0.95, 0.95, 0.55, 0.55]
    right = [True, True, True, False, True, False]

    found = measure_confidence(sure, right)

    assert found["calibration_error"] == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert [(each["from"], each["to"], each["items"]) for each in found["calibration_bins"]] == [
        (0.5, 0.6, 2), (0.9, 1.0, 4),
    ]  # fmt: skip
    assert measure_confidence([1.0, 1.0], [True, True])["calibration_error"] == 0


def test_risk_falls_where_the_surest_are_right() -> None:
    sure = [0.9, 0.8, 0.7, 0.6]
    good = measure_confidence(sure, [True, True, False, False])
    bad = measure_confidence(sure, [False, False, True, True])

    assert [point["risk"] for point in good["risk_coverage"]] == pytest.approx([0, 0, 1 / 3, 0.5])
    assert [point["coverage"] for point in good["risk_coverage"]] == [0.25, 0.5, 0.75, 1.0]
    assert good["risk_area"] == pytest.approx((1 / 3 + 0.5) / 4)
    assert bad["risk_area"] > good["risk_area"]


def test_answers_as_sure_have_no_order() -> None:
    one = measure_confidence([0.5] * 4, [True, False, True, False])
    other = measure_confidence([0.5] * 4, [False, False, True, True])

    assert one["risk_coverage"] == other["risk_coverage"]
    assert one["risk_area"] == pytest.approx(0.5)
