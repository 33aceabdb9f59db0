"""What a text would have a patient take of each ingredient: single doses, totals of a day."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from medllm.clinical.doses.amounts import Range
from medllm.clinical.doses.elements import Mention
from medllm.clinical.doses.limits import Measure, is_extended
from medllm.clinical.doses.sig import Sig
from medllm.clinical.doses.vocabulary import FORMS, TOTAL
from medllm.clinical.text.reading import Reading

_MORE = re.compile(
    r"\b(?:also|plus|additional|additionally|extra|another|in addition|as well as|on top|further)\b"
)
_INSTEAD = re.compile(
    r"\b(?:or|instead|alternatively|alternative|otherwise|rather than|switch|change|replace|"
    r"for example|such as|e\.g\.|called|known as|brand)\b|[(=]"
)
_JOINS = re.compile(r"[ ,]*(?:and|plus|with|&|\+|along with|together with|as well as)(?![a-z])")
LOOK_BACK = 60
"""Characters before a dose in which a word may say that it is added to another, or replaces it."""


@dataclass(frozen=True, slots=True)
class Use:
    """An ingredient in a sig: the largest single dose and the largest total of a day of it.

    `name` is how the text names the drug or product; `states_limit` where the text does not
    advise the dose but calls it the most that is allowed.
    """

    drug: str
    name: str
    sig: Sig
    single: Measure | None
    daily: Measure | None
    is_extended: bool
    states_limit: bool = False


def uses_of(reading: Reading, mention: Mention, sig: Sig, weight_kg: float | None) -> Iterator[Use]:
    """The uses of a sig, by ingredient; none where the parts of a product are not stated."""
    name = " ".join(reading.words[mention.first : mention.last])
    extended = is_extended(reading.folded.text, reading.begins[mention.first], sig.begin, sig.end)
    for number, drug in enumerate(sig.drugs):
        limit = sig.limit
        if limit and limit.per == "day" and len(sig.drugs) == 1 and limit.unit not in FORMS:
            most = _by_weight(Measure(limit.value, limit.unit), weight_kg)
            yield Use(drug, name, sig, None, most, extended, states_limit=True)
        if len(sig.doses or sig.daily) == len(sig.drugs):
            unit = _in_usual_unit(drug, sig.unit)
            single = _measure(sig.single, number, unit, weight_kg)
            total = _measure(sig.daily, number, unit, weight_kg)
            daily = _day_of(sig, number, single, total)
            yield Use(drug, name, sig, single, daily, extended)


def _in_usual_unit(drug: str, unit: str) -> str:
    """A millimole of the potassium of potassium chloride is a milliequivalent."""
    return unit.replace("mmol", "mEq") if drug == "potassium chloride" else unit


def _measure(
    ranges: tuple[Range, ...], number: int, unit: str, weight_kg: float | None
) -> Measure | None:
    return _by_weight(Measure(ranges[number].high, unit), weight_kg) if ranges else None


def _by_weight(measure: Measure, weight_kg: float | None) -> Measure:
    """A dose per kg as a dose, where the weight is known."""
    if weight_kg is None or not measure.unit.endswith("/kg"):
        return measure
    return Measure(measure.value * Decimal(str(weight_kg)), measure.unit.removesuffix("/kg"))


def _day_of(sig: Sig, number: int, single: Measure | None, daily: Measure | None) -> Measure | None:
    """The most of a day on which the drug is taken, as the text's own limit allows."""
    if daily is None and single and sig.often and not _is_rate(single.unit):
        times = sig.often.times if sig.often.days == 1 else Decimal(1)
        daily = Measure(single.value * times, single.unit)
    limit = sig.limit
    if daily is None or limit is None:
        return daily
    most = limit.value
    if sig.per_form and limit.unit not in (daily.unit, sig.unit):
        most = limit.value * sig.per_form[number].high
    elif limit.unit != daily.unit or limit.per != "day":
        return daily
    return Measure(min(daily.value, most), daily.unit)


def _is_rate(unit: str) -> bool:
    return unit.endswith(("/h", "/min", "/s"))


def total_of_day(reading: Reading, uses: Sequence[Use]) -> tuple[Measure, tuple[Use, ...]] | None:
    """The largest total of a day of one ingredient over all its sigs, and the uses that make it up.

    Sigs of one name that follow or replace each other count once, by the largest; another product
    with the same ingredient, and what the text adds ("also", "plus"), is added.
    """
    daily = [(each, each.daily) for each in uses if each.daily and not each.states_limit]
    if len({day.unit for _, day in daily}) != 1:
        daily = [(use, day) for use, day in daily if day.unit == "mg"]
    totals: list[tuple[Measure, tuple[Use, ...]]] = []
    for use, day in daily:
        whole, before = totals[-1] if totals else (day, ())
        if before and _adds(reading, before, use):
            totals.append((replace(day, value=whole.value + day.value), (*before, use)))
        else:
            totals.append((day, (use,)))
    return max(totals, key=lambda each: each[0].value, default=None)


def _adds(reading: Reading, before: Sequence[Use], use: Use) -> bool:
    last = before[-1]
    if use.sig.mention == last.sig.mention:
        if _is_at_another_time(last, use):
            return True
        return use.sig.joined == "and" and not _same(last, use)
    text = reading.folded.text
    begin = max(last.sig.end, use.sig.begin - LOOK_BACK)
    between = text[begin : use.sig.begin]
    if _INSTEAD.search(between) or _INSTEAD.match(text, use.sig.end + 1):
        return False
    is_joined = bool(_JOINS.match(text, last.sig.end, use.sig.begin))
    if known := [each for each in before if each.name == use.name]:
        if all(_is_at_another_time(each, use) for each in known):
            return True
        is_by_another_route = is_joined and use.sig.route != last.sig.route
        return is_by_another_route or bool(_MORE.search(between))
    is_restated = _same(last, use) and last.sig.drugs == use.sig.drugs and not is_joined
    return not is_restated or bool(_MORE.search(between))


def _is_at_another_time(one: Use, other: Use) -> bool:
    """Whether two doses are of different times of a day: in the morning, at night."""
    times = [each.sig.often.at if each.sig.often else "" for each in (one, other)]
    return all(times) and TOTAL not in times and times[0] != times[1]


def _same(one: Use, other: Use) -> bool:
    return one.daily == other.daily and one.single == other.single


def by_drug(uses: Iterable[Use]) -> dict[str, list[Use]]:
    """The uses by ingredient, in order."""
    grouped: dict[str, list[Use]] = {}
    for use in uses:
        grouped.setdefault(use.drug, []).append(use)
    return grouped
