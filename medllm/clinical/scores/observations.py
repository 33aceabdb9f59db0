"""The observations that a text gives, as NEWS2 takes them."""

import re
from decimal import Decimal

from medllm.clinical.measurements import Measurement, find_measurements
from medllm.clinical.measurements.consciousness import ACVPU, find_levels
from medllm.clinical.measurements.fidelity import is_points
from medllm.clinical.scores.news2 import news2
from medllm.clinical.scores.result import Score
from medllm.clinical.scores.values import Unscorable
from medllm.clinical.scores.vitals import Vitals
from medllm.clinical.text.folding import fold

_FIELDS = {
    "respiratory rate": "respiratory_rate", "oxygen saturation": "spo2_percent",
    "systolic blood pressure": "systolic_mmhg", "diastolic blood pressure": "diastolic_mmhg",
    "heart rate": "pulse", "body temperature": "temperature_c",
}  # fmt: skip
ROOM_AIR = Decimal("0.21")
_AIR = re.compile(
    r"\b(?:room air|on air|breathing air|ra)\b|\b(?:no|without|not on) (?:any )?(?:supplemental )?"
    r"(?:oxygen|o2)\b|\b(?:oxygen|o2)(?: therapy)?[:=]? ?(?:no|none|false)\b"
)
_OXYGEN = re.compile(
    r"\b(?:on|receiving|with|requiring|needs) (?:supplemental |some )?(?:oxygen|o2)\b(?! sat)|"
    r"\b(?:oxygen|o2)(?: therapy)?[:=]? ?(?:yes|true)\b|\bnasal (?:cannula|prongs|specs)\b|"
    r"\bface ?mask\b|\bventuri\b|\bnon-?rebreath|\bhfnc\b|\b(?:bi|c)pap\b|\bventilated\b"
)
_AGE = re.compile(r"\b(\d{1,3})(?:[ -]years?\b|[ -]?(?:yo|y/o|yr)\b)|\bage[d:]? ?(\d{1,3})\b")
_PREGNANT = re.compile(r"(?<!not )\bpregnant\b")
_SCALE_2 = re.compile(r"\bscale 2\b|\btarget(?: \w+){0,3} 88\b")


def read_vitals(text: str) -> Vitals:
    """What a text says was observed; what it does not say is None.

    Raises:
        Unscorable: it has several values of one sign, or one that is no single number.
    """
    found: dict[str, Decimal] = {}
    measured = find_measurements(text)
    for each in measured:
        field = _FIELDS.get(each.attribute)
        if field and not is_points(each):
            is_single = each.value is not None and each.upper is None and not each.sign
            if not is_single or found.setdefault(field, each.value) != each.value:  # type: ignore[arg-type]
                message = f"{each.attribute}: no single value"
                raise Unscorable(message, "give one value of each sign")
    return Vitals(
        **found,
        on_oxygen=_oxygen(fold(text).text, measured),
        consciousness=_consciousness(text, measured),
    )


def read_news2(text: str) -> Score:
    """NEWS2 of the observations in a text, on the scale of SpO2 that it names.

    Raises:
        Unscorable: as `read_vitals`, or `news2` is not meant for the patient.
    """
    folded = fold(text).text
    age = _AGE.search(folded)
    return news2(
        read_vitals(text),
        spo2_scale=2 if _SCALE_2.search(folded) else 1,
        age_years=int(age[1] or age[2]) if age else None,
        pregnant=True if _PREGNANT.search(folded) else None,
    )


def _oxygen(folded: str, measured: tuple[Measurement, ...]) -> bool | None:
    """Whether oxygen is given; a flow or a fraction says so, else the words."""
    for each in measured:
        if each.attribute == "oxygen flow" and each.readings:
            return each.readings[0] > 0
        if each.attribute == "fraction of inspired oxygen" and each.readings:
            return each.readings[0] > ROOM_AIR
    if _AIR.search(folded):
        return False
    return True if _OXYGEN.search(folded) else None


def _consciousness(text: str, measured: tuple[Measurement, ...]) -> str | None:
    """A letter of ACVPU, the worst that is said; 15 points of the coma scale are alert."""
    said = {each.letters for each in find_levels(text) if each.is_said} & {*ACVPU}
    if said:
        return max(said, key=ACVPU.index)
    coma = [each.value for each in measured if each.attribute == "Glasgow Coma Scale"]
    return "A" if coma == [Decimal(15)] else None
