"""NEWS2 over its whole grid, against charts that are written here as the College prints them."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm.clinical.measurements.quantities import convert
from medllm.clinical.scores import Unscorable, Vitals, news2

# Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, chart 1
CHARTS = {
    "respiratory rate": "0-8 3, 9-11 1, 12-20 0, 21-24 2, 25-80 3",
    "scale 1": "0-91 3, 92-93 2, 94-95 1, 96-100 0",
    "scale 2 on air": "0-83 3, 84-85 2, 86-87 1, 88-92 0, 93-100 0",
    "scale 2 on oxygen": "0-83 3, 84-85 2, 86-87 1, 88-92 0, 93-94 1, 95-96 2, 97-100 3",
    "systolic blood pressure": "0-90 3, 91-100 2, 101-110 1, 111-219 0, 220-320 3",
    "pulse": "0-40 3, 41-50 1, 51-90 0, 91-110 1, 111-130 2, 131-350 3",
    "temperature": "13.0-35.0 3, 35.1-36.0 1, 36.1-38.0 0, 38.1-39.0 1, 39.1-46.0 2",
}
FIELDS = {
    "respiratory rate": "respiratory_rate",
    "systolic blood pressure": "systolic_mmhg",
    "pulse": "pulse",
    "temperature": "temperature_c",
}
NORMAL = Vitals(
    respiratory_rate=16, spo2_percent=97, on_oxygen=False, systolic_mmhg=120, pulse=75,
    consciousness="A", temperature_c=36.8,
)  # fmt: skip
SICK = Vitals(
    respiratory_rate=26, spo2_percent=92, on_oxygen=True, systolic_mmhg=95, diastolic_mmhg=60,
    pulse=115, temperature_c=38.8,
)  # fmt: skip


def cells(chart: str) -> list[tuple[Decimal, int]]:
    """Every value that a chart prints, in its own steps, with its points."""
    step = Decimal("0.1") if "." in CHARTS[chart] else Decimal(1)
    found = []
    for band in CHARTS[chart].split(", "):
        span, points = band.split(" ")
        low, high = map(Decimal, span.split("-"))
        found += [(low + n * step, int(points)) for n in range(int((high - low) / step) + 1)]
    return found


def scored(vitals: Vitals, scale: int = 1) -> dict[str, float]:
    return dict(news2(vitals, spo2_scale=scale, age_years=50).points)


def having(**values: object) -> Vitals:
    """The normal patient, but for these."""
    return Vitals(**{**{f: getattr(NORMAL, f) for f in Vitals.__slots__}, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("parameter", FIELDS)
def test_every_cell_of_a_chart_has_its_points(parameter: str) -> None:
    for value, points in cells(parameter):
        for written in (value, float(value)):
            assert scored(having(**{FIELDS[parameter]: written}))[parameter] == points, value


@pytest.mark.parametrize("oxygen", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
def test_every_saturation_has_its_points(scale: int, oxygen: bool) -> None:
    chart = "scale 1" if scale == 1 else f"scale 2 on {'oxygen' if oxygen else 'air'}"
    for value, points in cells(chart):
        found = scored(having(spo2_percent=value, on_oxygen=oxygen), scale)

        assert found["oxygen saturation"] == points, value
        assert found["air or oxygen"] == 2 * oxygen


def test_every_total_is_the_sum_of_its_points_and_has_its_response() -> None:
    """The corners of each band of five parameters, with all that consciousness can be."""
    edges = {
        name: [band.split("-")[0] for band in chart.split(", ")] for name, chart in CHARTS.items()
    }
    for breaths in edges["respiratory rate"]:
        for pulse in edges["pulse"]:
            for systolic in edges["systolic blood pressure"]:
                for letter in "ACVPU":
                    score = news2(
                        having(respiratory_rate=Decimal(breaths), pulse=Decimal(pulse),
                               systolic_mmhg=Decimal(systolic), consciousness=letter)
                    )  # fmt: skip
                    expected = sum(score.points.values())
                    assert score.total == expected
                    assert score.band == band_of(expected, 3 in score.points.values())


def band_of(total: float, single_3: bool) -> str:
    if total >= 7:
        return "high"
    if total >= 5:
        return "medium"
    return "low-medium" if single_3 else "low"


@pytest.mark.parametrize(
    ("value", "points"),
    [("38.05", 1), ("38.04", 0), ("35.05", 1), ("35.04", 3), ("36.05", 0), ("39.05", 2)],
)
def test_a_temperature_is_rounded_half_up_to_a_tenth(value: str, points: int) -> None:
    assert scored(having(temperature_c=Decimal(value)))["temperature"] == points
    assert scored(having(temperature_c=float(value)))["temperature"] == points


def test_what_computing_left_in_a_float_decides_nothing() -> None:
    for value in (37.95 + 0.1, 38.04999999999999, (100.49 - 32) * 5 / 9):
        assert scored(having(temperature_c=value))["temperature"] == 1


@pytest.mark.parametrize(
    ("field", "parameter", "value", "points"),
    [
        ("respiratory_rate", "respiratory rate", 24.5, 3),
        ("respiratory_rate", "respiratory rate", 24.4, 2),
        ("pulse", "pulse", 90.5, 1),
        ("systolic_mmhg", "systolic blood pressure", 90.5, 2),
        ("systolic_mmhg", "systolic blood pressure", 219.5, 3),
        ("spo2_percent", "oxygen saturation", 91.5, 2),
        ("spo2_percent", "oxygen saturation", 95.5, 0),
    ],
)
def test_no_value_falls_between_two_bands(
    field: str, parameter: str, value: float, points: int
) -> None:
    assert scored(having(**{field: value}))[parameter] == points


@pytest.mark.parametrize("word", ["C", "c", "new confusion", "Confused", "V", "pain", "U"])
def test_whoever_is_newly_confused_or_not_alert_has_three_points(word: str) -> None:
    score = news2(having(consciousness=word))

    assert score.points["consciousness"] == 3
    assert (score.total, score.band) == (3, "low-medium")
    assert score.response.startswith("urgent ward-based response")


def test_the_sick_patient_has_at_least_twelve() -> None:
    score = news2(SICK, age_years=60)

    assert (score.total, score.missing, score.band) == (12, ("consciousness",), "high")
    assert score.response.startswith("at least: emergency response")
    assert str(score) == "NEWS2 at least 12 (high), missing: consciousness"
    assert news2(SICK, spo2_scale=2).total == 10


def test_the_other_worked_examples() -> None:
    worst = Vitals(
        respiratory_rate=22, spo2_percent=97, on_oxygen=True, systolic_mmhg=105, pulse=95,
        consciousness="C", temperature_c=35.0,
    )  # fmt: skip

    assert news2(NORMAL).total == 0
    assert "12-hourly" in news2(NORMAL).response
    assert news2(worst, spo2_scale=2).total == 15
    assert "4 to 6-hourly" in news2(having(pulse=91)).response


def test_nothing_given_is_not_a_score_of_nought() -> None:
    score = news2(Vitals())

    assert (score.band, len(score.missing)) == ("not scored", 7)
    assert "nothing can be said" in score.response


@pytest.mark.parametrize("field", Vitals.__slots__)
def test_a_missing_parameter_is_named_and_never_lowers_what_is_known(field: str) -> None:
    whole, part = news2(having(pulse=135)), news2(having(**{"pulse": 135, field: None}))

    if field == "diastolic_mmhg":
        assert part.missing == ()
    else:
        assert len(part.missing) == 1
        assert part.total == whole.total - whole.points[part.missing[0]]
        assert str(part).startswith("NEWS2 at least ")


def test_on_scale_2_an_unknown_oxygen_counts_as_the_least() -> None:
    score = news2(having(spo2_percent=98, on_oxygen=None), spo2_scale=2)

    assert score.points["oxygen saturation"] == 0
    assert score.missing == ("air or oxygen",)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("temperature_c", 101.8, "body temperature"),
        ("temperature_c", 12, "body temperature"),
        ("spo2_percent", 101, "oxygen saturation"),
        ("spo2_percent", 0.95, "oxygen saturation"),
        ("pulse", -1, "heart rate"),
        ("pulse", 351, "heart rate"),
        ("pulse", float("nan"), "heart rate"),
        ("pulse", True, "heart rate"),
        ("pulse", "80", "heart rate"),
        ("respiratory_rate", 81, "respiratory rate"),
        ("respiratory_rate", Decimal("Infinity"), "respiratory rate"),
        ("systolic_mmhg", 321, "systolic blood pressure"),
        ("consciousness", "X", "consciousness"),
        ("on_oxygen", "air", "on oxygen"),
    ],
)
def test_an_impossible_value_is_refused_by_name(field: str, value: object, named: str) -> None:
    with pytest.raises(Unscorable, match=f"^{named}:"):
        news2(having(**{field: value}))


def test_a_diastolic_above_the_systolic_is_refused() -> None:
    with pytest.raises(Unscorable, match="diastolic is above"):
        news2(having(systolic_mmhg=80, diastolic_mmhg=120))


def test_children_and_pregnancy_are_refused() -> None:
    assert news2(NORMAL, age_years=16).total == 0
    for years in (15, 15.99, 0):
        with pytest.raises(Unscorable, match="below 16"):
            news2(NORMAL, age_years=years)
    with pytest.raises(Unscorable, match="pregnancy"):
        news2(NORMAL, pregnant=True)
    with pytest.raises(Unscorable, match="scale"):
        news2(NORMAL, spo2_scale=3)


MIDDLE = {"respiratory_rate": 16, "systolic_mmhg": 165, "pulse": 70, "temperature_c": 37}


@given(st.sampled_from(sorted(MIDDLE)), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_points_never_fall_away_from_the_normal_band(
    field: str, one: float, other: float, up: bool
) -> None:
    parameter = next(name for name, each in FIELDS.items() if each == field)
    values = [value for value, _ in cells(parameter)]
    end, middle = float(values[-1] if up else values[0]), MIDDLE[field]
    near, far = (middle + (end - middle) * share for share in sorted((one, other)))

    assert scored(having(**{field: near}))[parameter] <= scored(having(**{field: far}))[parameter]


@given(st.floats(0, 100), st.floats(0, 100), st.booleans())
def test_less_saturation_never_scores_less_on_scale_1(
    one: float, other: float, oxygen: bool
) -> None:
    low, high = sorted(math.ceil(value) for value in (one, other))
    found = [
        scored(having(spo2_percent=value, on_oxygen=oxygen))["oxygen saturation"]
        for value in (low, high)
    ]

    assert found[0] >= found[1]


@given(st.decimals(13, 46, places=3))
def test_a_temperature_scores_alike_in_celsius_and_fahrenheit(celsius: Decimal) -> None:
    fahrenheit = celsius * Decimal("1.8") + 32
    back = convert("body temperature", fahrenheit, "°F")

    assert abs(back - celsius) <= Decimal("0.00005")
    if celsius == celsius.quantize(Decimal("0.01")):
        assert scored(having(temperature_c=back)) == scored(having(temperature_c=celsius))
