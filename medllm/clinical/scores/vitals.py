"""Observations of one patient at one time, read at the precision of a chart."""

from dataclasses import dataclass
from decimal import Decimal

from medllm.clinical.scores.values import Number, Unscorable, flag, possible, rounded

WORDS = {
    "alert": "A", "new confusion": "C", "confusion": "C", "confused": "C", "voice": "V",
    "pain": "P", "unresponsive": "U",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What was observed; None stands for what was not, and never for a normal value.

    Charts print whole numbers, and temperature to 0.1 °C. The methods round half up to that, so
    that no value falls between two bands: 38.05 °C is 38.1 °C. They raise Unscorable for a value
    that no patient can have.
    """

    respiratory_rate: Number | None = None
    """Breaths a minute."""
    spo2_percent: Number | None = None
    on_oxygen: bool | None = None
    """Whether any supplemental oxygen is given."""
    systolic_mmhg: Number | None = None
    diastolic_mmhg: Number | None = None
    pulse: Number | None = None
    """Beats a minute."""
    temperature_c: Number | None = None
    consciousness: str | None = None
    """A letter of ACVPU, or its word: alert, new confusion, voice, pain, unresponsive."""

    def breaths(self) -> Decimal | None:
        """Breaths a minute, whole."""
        return _read("respiratory rate", self.respiratory_rate)

    def saturation(self) -> Decimal | None:
        """Percent, whole; a fraction is refused, as 0.95 would pass for 1 %."""
        if self.spo2_percent is not None and 0 < self.spo2_percent < 1:
            message = "oxygen saturation: a fraction, where percent are expected"
            raise Unscorable(message, "give percent: 95, not 0.95")
        return _read("oxygen saturation", self.spo2_percent)

    def systolic(self) -> Decimal | None:
        """The systolic pressure in mmHg, whole; it cannot be below the diastolic one."""
        high, low = _read("systolic blood pressure", self.systolic_mmhg), self.diastolic()
        if high is not None and low is not None and high < low:
            message = "blood pressure: impossible (the diastolic is above the systolic)"
            raise Unscorable(message, "check which is which")
        return high

    def diastolic(self) -> Decimal | None:
        """The diastolic pressure in mmHg, whole."""
        return _read("diastolic blood pressure", self.diastolic_mmhg)

    def beats(self) -> Decimal | None:
        """Beats a minute, whole."""
        return _read("heart rate", self.pulse)

    def temperature(self) -> Decimal | None:
        """Degrees Celsius, to one decimal."""
        return _read("body temperature", self.temperature_c, "0.1")

    def acvpu(self) -> str | None:
        """A, C, V, P or U."""
        if self.consciousness is None:
            return None
        word = self.consciousness.strip()
        letter = WORDS.get(word.lower(), word.upper())
        if letter not in {*"ACVPU"}:
            raise Unscorable("consciousness: none of A, C, V, P, U", "give one of these letters")
        return letter

    def oxygen(self) -> bool | None:
        """Whether oxygen is given."""
        return flag("on oxygen", self.on_oxygen)

    def is_altered(self) -> bool | None:
        """Whether the patient is newly confused or less than alert."""
        letter = self.acvpu()
        return None if letter is None else letter != "A"


def _read(what: str, value: Number | None, step: str = "1") -> Decimal | None:
    return None if value is None else rounded(possible(what, value), step)
