"""Observations of made-up adults, in the ways wards write them, with what NEWS2 makes of them.

Row `i` depends on the seed and on `i` only. Values are drawn sign by sign and describe no person;
the answers state what is given, its points and the Royal College of Physicians' response (2017).
"""

from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import Any

from medllm.clinical.scores import Score, Vitals, news2
from medllm.data.example import Example, Message
from medllm.data.generators.base import Generator

DATASET = "synthetic_vitals"
FIRED = "Explain why this early warning alert fired."
"""Asked of scores that ask for an urgent response at least."""
ASKED = (
    "Explain this patient's NEWS2 and what should be done now.",
    "Summarize these observations for the handover.",
    "Is this patient deteriorating? Explain from the observations.",
)
SETTINGS = ("on the medical ward", "on the surgical ward", "in the emergency department",
            "after hip surgery", "on the respiratory ward", "in the day unit")  # fmt: skip
LEVELS = {"A": "alert", "C": "newly confused", "V": "responds to voice", "P": "responds to pain",
          "U": "unresponsive"}  # fmt: skip
SHARE_OF_ILL = 0.5
"""Of the signs of an ill patient that are drawn from the wide range."""
USUAL: Mapping[str, tuple[int, int]] = {
    "pulse": (56, 90), "breaths": (12, 20), "systolic": (111, 158), "tenths": (361, 380),
    "saturation": (96, 99),
}  # fmt: skip
WIDE: Mapping[str, tuple[int, int]] = {
    "pulse": (36, 154), "breaths": (7, 36), "systolic": (76, 228), "tenths": (342, 402),
    "saturation": (83, 97),
}  # fmt: skip


def build_example(seed: int, number: int) -> Example:
    """Row `number` of a seed: observations, a question, and an answer true to them."""
    rng = Random(f"{DATASET}-{seed}-{number}")
    age, sex = rng.randint(18, 94), rng.choice(("woman", "man"))
    given = _draw(rng)
    score = news2(_vitals(given), age_years=age)
    style = rng.choice(sorted(STYLES))
    who = f"A {age}-year-old {sex} {rng.choice(SETTINGS)}".replace("A 8", "An 8").replace(
        "A 18-", "An 18-"
    )
    asked = rng.choice(ASKED if score.band == "low" else (*ASKED, FIRED))
    row_id = f"{DATASET}/{seed}-{number}"
    return Example(
        id=row_id,
        dataset=DATASET,
        group=row_id,
        prompt=(Message("user", f"{asked}\n\n{who}.\n{STYLES[style](given)}"),),
        completion=_explain(given, score),
        metadata={"style": style, "band": score.band, "news2": int(score.total),
                  "age": age, "sex": sex},
    )  # fmt: skip


def _draw(rng: Random) -> dict[str, Any]:
    """The signs; a well patient has usual ones, of an ill one some are anything."""
    is_ill = rng.random() < 2 / 3
    given: dict[str, Any] = {}
    for name, usual in USUAL.items():
        low, high = WIDE[name] if is_ill and rng.random() < SHARE_OF_ILL else usual
        given[name] = rng.randint(low, high)
    given["diastolic"] = round(given["systolic"] * rng.uniform(0.48, 0.68))
    given["litres"] = rng.choice((1, 2, 4, 8, 15)) if is_ill and rng.random() < 0.4 else 0
    level = rng.choice("CVPU") if is_ill and rng.random() < 0.15 else "A"
    given["level"] = None if rng.random() < 0.1 else level
    given["unit"] = rng.choice(("°C", "°C", "°F"))
    return given


def _vitals(given: Mapping[str, Any]) -> Vitals:
    return Vitals(
        respiratory_rate=given["breaths"], spo2_percent=given["saturation"],
        on_oxygen=given["litres"] > 0, systolic_mmhg=given["systolic"],
        diastolic_mmhg=given["diastolic"], pulse=given["pulse"],
        temperature_c=_celsius(given), consciousness=given["level"],
    )  # fmt: skip


def _celsius(given: Mapping[str, Any]) -> Decimal:
    """The temperature as its text has it: of °F, what they are in °C."""
    if given["unit"] == "°C":
        return Decimal(given["tenths"]) / 10
    return (Decimal(_temperature(given).split()[0]) - 32) * 5 / 9


def _temperature(given: Mapping[str, Any]) -> str:
    celsius = Decimal(given["tenths"]) / 10
    number = celsius if given["unit"] == "°C" else (celsius * 9 / 5 + 32).quantize(Decimal("0.1"))
    return f"{number} {given['unit']}"


def _in_a_line(given: Mapping[str, Any]) -> str:
    air = f"on {given['litres']} L/min O2" if given["litres"] else "on room air"
    level = f", {LEVELS[given['level']]}" if given["level"] else ""
    return (
        f"HR {given['pulse']} bpm, BP {given['systolic']}/{given['diastolic']} mmHg, RR "
        f"{given['breaths']}/min, Temp {_temperature(given)}, SpO2 {given['saturation']}% {air}"
        f"{level}."
    )


def _as_list(given: Mapping[str, Any]) -> str:
    air = f"{given['litres']} L/min oxygen" if given["litres"] else "room air"
    lines = [
        f"Respiratory rate: {given['breaths']} breaths/min",
        f"Oxygen saturation: {given['saturation']} %",
        f"Air or oxygen: {air}",
        f"Blood pressure: {given['systolic']}/{given['diastolic']} mmHg",
        f"Pulse: {given['pulse']} beats/min",
        *([f"Consciousness: {LEVELS[given['level']]}"] if given["level"] else []),
        f"Temperature: {_temperature(given)}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _in_words(given: Mapping[str, Any]) -> str:
    air = f"{given['litres']} litres of oxygen" if given["litres"] else "room air"
    level = f" The patient is {LEVELS[given['level']]}." if given["level"] else ""
    return (
        f"The pulse is {given['pulse']}, the blood pressure {given['systolic']} over "
        f"{given['diastolic']}, with {given['breaths']} breaths per minute and a temperature of "
        f"{_temperature(given)}. Oxygen saturation is {given['saturation']}% on {air}.{level}"
    ).replace("The patient is responds", "The patient responds")


STYLES = {"line": _in_a_line, "list": _as_list, "prose": _in_words}


def _explain(given: Mapping[str, Any], score: Score) -> str:
    """The points of each sign, the total and the response, as the Royal College has them."""
    air = f"{given['litres']} L/min oxygen" if given["litres"] else "room air"
    values = {
        "respiratory rate": f"respiratory rate {given['breaths']}/min",
        "oxygen saturation": f"oxygen saturation {given['saturation']}%",
        "air or oxygen": air,
        "systolic blood pressure": f"systolic blood pressure {given['systolic']} mmHg",
        "pulse": f"pulse {given['pulse']} beats/min",
        "consciousness": f"consciousness: {LEVELS.get(given['level'] or '', '')}",
        "temperature": f"temperature {_temperature(given)}",
    }
    lines = [
        f"- {values[name][:1].upper()}{values[name][1:]}: {points:g} points".replace(
            " 1 points", " 1 point"
        )
        for name, points in score.points.items()
    ]
    least = "at least " if score.missing else ""
    gap = f"\nNot stated, and to be observed: {', '.join(score.missing)}." * bool(score.missing)
    response = score.response.removeprefix("at least: ")
    return (
        f"NEWS2 is {least}{score.total:g} ({score.band} risk).\n" + "\n".join(lines) + gap
        + f"\n{response[:1].upper()}{response[1:]}."
    )  # fmt: skip


GENERATOR = Generator(build_example)
