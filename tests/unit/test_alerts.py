"""An early warning is computed anew; a stated score that is wrong is named."""

import asyncio
from typing import Any

import pytest

from medllm.engines.fake import FakeEngine

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.routes.alerts import Observations  # noqa: E402

APP = build_app(FakeEngine(), model_id="m", callers=Callers(), max_tokens=9)
SICK = {
    "respiratory_rate": 24, "spo2_percent": 93, "on_oxygen": False, "systolic_mmhg": 105,
    "pulse": 112, "temperature_c": 38.4, "consciousness": "alert",
}  # fmt: skip
"""2 + 2 + 0 + 1 + 2 + 0 + 1 = 8, by charts 1 and 2 of the Royal College of Physicians, 2017."""
NUMBERS = sorted({*Observations.model_fields} - {"on_oxygen", "consciousness"})


def explain(**asked: Any) -> Any:
    async def ask() -> Any:
        transport = httpx.ASGITransport(APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/alerts/explain", json=asked)

    return asyncio.run(ask())


def test_the_score_is_computed_and_said() -> None:
    told = explain(vitals=SICK, scores={"news2": 8}, age_years=70).json()
    news2, qsofa = told["scores"]
    assert (news2["total"], news2["band"], news2["agrees"], news2["missing"]) == (
        8,
        "high",
        True,
        [],
    )
    assert (qsofa["total"], qsofa["stated"], qsofa["agrees"]) == (1, None, None)
    assert told["confidence"] == 1.0 and "probability" in told["confidence_means"]
    assert "NEWS2 8 (high)" in told["explanation"] and "Emergency response" in told["explanation"]
    assert told["warnings"] == [] and "2017" in news2["source"]


@pytest.mark.parametrize("wrong", [0, 7, 9, 7.5, -1, 20])
def test_a_wrong_score_is_named(wrong: float) -> None:
    told = explain(vitals=SICK, scores={"news2": wrong}).json()
    assert told["scores"][0]["agrees"] is False
    (warning,) = told["warnings"]
    assert warning == f"The stated NEWS2 of {wrong:g} is wrong: these observations give 8."
    assert warning in told["explanation"]


@pytest.mark.parametrize(("stated", "agrees"), [(7, False), (8, None), (11, None), (12, False)])
def test_what_is_missing_is_never_taken_for_normal(stated: float, agrees: bool | None) -> None:
    told = explain(vitals=SICK | {"consciousness": None}, scores={"news2": stated}).json()
    assert told["scores"][0]["agrees"] is agrees
    assert told["scores"][0]["is_least"] and told["scores"][0]["missing"] == ["consciousness"]
    assert told["confidence"] == 0.857 and len(told["warnings"]) == (agrees is False)


def test_on_scale_2_oxygen_that_is_not_known_leaves_the_saturation_open() -> None:
    vitals = SICK | {"on_oxygen": None, "spo2_percent": 97}
    for stated, agrees in ((6, None), (11, None), (12, False)):
        told = explain(vitals=vitals, scores={"news2": stated}, spo2_scale=2).json()
        assert told["scores"][0]["agrees"] is agrees, stated


def test_a_band_of_what_is_not_whole_is_the_least() -> None:
    told = explain(vitals={"consciousness": "A"}).json()
    assert told["scores"][0]["band"] == "at least low"
    assert "NEWS2 at least 0 (low), missing" in told["explanation"]
    assert "it may be up to 17." in told["explanation"]


@pytest.mark.parametrize(
    "vitals", [{"pulse": 0}, {"respiratory_rate": 0}, {"systolic_mmhg": 16}, {"spo2_percent": 1}]
)
def test_what_cannot_wait_for_a_score_comes_first(vitals: dict[str, float]) -> None:
    told = explain(vitals=SICK | vitals).json()
    (warning,) = told["warnings"]
    assert told["explanation"].startswith(warning) and "see the patient at once" in warning
    assert told["scores"][0]["points"]


def test_nothing_given_says_nothing() -> None:
    told = explain(vitals={}).json()
    assert told["confidence"] == 0 and told["scores"][0]["band"] == "not scored"


@pytest.mark.parametrize(
    ("asked", "says", "names"),
    [
        ({"vitals": SICK | {"spo2_percent": 0.93}}, "oxygen saturation", "vitals.spo2_percent"),
        ({"vitals": SICK | {"pulse": 1200}}, "heart rate", "vitals.pulse"),
        ({"vitals": SICK | {"consciousness": "fine"}}, "consciousness", "vitals.consciousness"),
        ({"vitals": SICK | {"diastolic_mmhg": 190}}, "diastolic", "vitals.diastolic_mmhg"),
        ({"vitals": SICK, "age_years": 9}, "16 years", "age_years"),
        ({"vitals": SICK, "age_years": 131}, "130 years", "age_years"),
        ({"vitals": SICK, "pregnant": True}, "pregnancy", "pregnant"),
        ({"vitals": SICK | {"heart_rate": 80}}, "no such field", "vitals.heart_rate"),
        ({"vitals": SICK | {"pulse": "80"}}, "pulse", "vitals.pulse"),
        ({"vitals": SICK | {"on_oxygen": 1}}, "on_oxygen", "vitals.on_oxygen"),
        ({"vitals": SICK, "scores": {"mews": 4}}, "mews", "scores.mews"),
        ({"vitals": SICK, "spo2_scale": 3}, "spo2_scale", "spo2_scale"),
        ({"scores": {"news2": 4}}, "vitals", "vitals"),
        *(({"vitals": {name: 10**6}}, "impossible", f"vitals.{name}") for name in NUMBERS),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(
    asked: dict[str, Any], says: str, names: str
) -> None:
    refused = explain(**asked)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert says in error["message"] and error["param"] == names
