"""How far a dose is above the largest labelled one, and what that means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from medllm.clinical.doses.limits import Limit, Measure, Setting
from medllm.clinical.doses.uses import Use
from medllm.clinical.finding import Severity
from medllm.clinical.rules.knowledge import Knowledge

HEAVIEST_KG = 200
"""A dose above the limit per kg of such a patient is above that of any, whatever they weigh."""
TWICE, FIVEFOLD, TENFOLD = Decimal(2), Decimal(5), Decimal(10)
_LETHAL_FROM = _NEAR = Decimal("1.5")


@dataclass(frozen=True, slots=True)
class Excess:
    """A dose that is `ratio` times the limit of a row; `is_open` where the weight would decide."""

    limit: Limit
    measure: Measure
    dose: Measure
    ratio: Decimal
    is_open: bool = False


def limits_for(use: Use, rows: Sequence[Limit], setting: Setting) -> list[Limit]:
    """The rows that are of this route, form, product and subject."""
    text_of_product = [each for each in rows if _is_of_product(each, use)]
    chosen = text_of_product or [each for each in rows if "products" not in each.row]
    chosen = [each for each in chosen if not each.row.get("never")]
    route = use.sig.route
    chosen = [each for each in chosen if not route or not each.routes or route in each.routes]
    chosen = [each for each in chosen if _is_spoken_of(each, setting)]
    chosen = [each for each in chosen if not _is_too_small(each, use)]
    if use.is_extended and any(each.row.get("release") == "extended" for each in chosen):
        chosen = [each for each in chosen if each.row.get("release") != "immediate"]
    weight = setting.patient.weight_kg
    return [each for each in chosen if weight is None or weight > each.row.get("weight_above", -1)]


def _is_of_product(limit: Limit, use: Use) -> bool:
    return any(use.name.startswith(name.lower()) for name in limit.row.get("products", ()))


def _is_spoken_of(limit: Limit, setting: Setting) -> bool:
    if limit.narrows or "only_for" not in limit.row:
        return True
    return setting.speaks_of(limit.row["only_for"])


def _is_too_small(limit: Limit, use: Use) -> bool:
    least = limit.least
    return bool(least and use.single and use.single.unit == least.unit
                and use.single.value < least.value)  # fmt: skip


def excess(dose: Measure, limit: Limit, column: str, weight_kg: float | None) -> Excess | None:
    """How a dose stands to a row's limit; None where the two cannot be compared.

    A row without a largest single dose allows no more at once than in a whole day.
    """
    measure = limit.of(column) or (limit.daily if column == "single" else None)
    if measure is None:
        return None
    is_per_kg = measure.unit == f"{dose.unit}/kg"
    if not is_per_kg and measure.unit != dose.unit:
        return None
    weight = Decimal(str(weight_kg or HEAVIEST_KG))
    most = measure.for_weight(weight) if is_per_kg else measure.value
    ratio = dose.value / most if most else Decimal(99)
    is_open = is_per_kg and weight_kg is None and ratio <= 1
    if is_open and measure.cap is None:
        return None
    return Excess(limit, measure, dose, ratio, is_open)


def judge(
    dose: Measure, column: str, limits: Sequence[Limit], setting: Setting, knowledge: Knowledge
) -> tuple[Excess | None, list[Excess], bool]:
    """What a dose exceeds, what it may exceed, and whether it could be compared at all.

    A row with `limit: ceiling` counts instead of the others, as a hospital's own may. The first of
    the results is the strictest row that narrows the limit for this patient, else the row with the
    largest limit where the dose is above every one; the second are limits of narrower groups that
    it is above, where nothing says whether the patient is of them.
    """
    compared: list[tuple[Excess, bool | None]] = []
    for limit in limits:
        found = excess(dose, limit, column, setting.patient.weight_kg)
        if found:
            compared.append((found, _counts(limit, setting)))
    above = [each for each, counts in compared if counts and each.limit.narrows and each.ratio > 1]
    if above:
        return max(above, key=lambda each: each.ratio), [], True
    ordinary = [each for each, counts in compared if not each.limit.narrows]
    ceilings = [each for each in ordinary if each.limit.row.get("limit") == "ceiling"]
    ordinary = _without_per_kg(ceilings or ordinary, dose)
    if ordinary and all(each.ratio > 1 for each in ordinary):
        return _named(ordinary, knowledge), [], True
    maybe = [each for each, counts in compared if each.ratio > 1 and counts is None
             and each.measure.value]  # no dose at all is a contraindication  # fmt: skip
    return None, maybe, not all(each.is_open for each, _ in compared)


def _named(found: Sequence[Excess], knowledge: Knowledge) -> Excess:
    """The row to name, of several that all are exceeded: one that may block, where there is one.

    How far above counts from the largest limit of all.
    """
    least = min(each.ratio for each in found)
    near = [each for each in found if each.ratio <= least * _NEAR]
    sure = [each for each in near if knowledge.basis(each.limit.row).may_block()]
    return replace(min(sure or found, key=lambda each: each.ratio), ratio=least)


def _counts(limit: Limit, setting: Setting) -> bool | None:
    if not limit.narrows:
        return True
    if "only_for" in limit.row and not setting.speaks_of(limit.row["only_for"]):
        return False
    return setting.applies(limit.row)


def _without_per_kg(found: list[Excess], dose: Measure) -> list[Excess]:
    """Where a weight is not known, a limit that needs none, or has a cap, comes first."""
    plain = [each for each in found if each.measure.unit == dose.unit or each.measure.cap]
    return plain or found


def severity_of(found: Excess) -> Severity:
    """`major` above the largest labelled dose, `contraindicated` from twice on.

    Where twice the dose seldom harms, from five times on; where a little more kills, from one and
    a half times on. Above what is no ceiling of a label: `moderate`, from twice on `major`, and
    from ten times on, as a slip of the unit or of the decimal point makes it, `contraindicated`.
    """
    row, ratio = found.limit.row, found.ratio
    if row.get("limit") == "caution":
        return "contraindicated" if ratio >= TENFOLD else "major" if ratio >= TWICE else "moderate"
    wide = FIVEFOLD if row.get("margin") == "wide" else TWICE
    worst_from = _LETHAL_FROM if row.get("fatal") else wide
    return "contraindicated" if ratio >= worst_from else "major"


def too_often(use: Use, limits: Sequence[Limit], knowledge: Knowledge) -> Limit | None:
    """The row of a weekly or monthly drug that the text gives more often, such as every day."""
    often = use.sig.often
    a_day = often.a_day if often else Decimal(1) if use.sig.daily else None
    deciding = [each for each in limits if not each.narrows
                and (each.daily or "every_days" in each.row)]  # fmt: skip
    if a_day is None or not deciding or any("every_days" not in each.row for each in deciding):
        return None
    slack = Decimal("1.05")
    broken = [each for each in deciding if a_day * Decimal(each.row["every_days"]) > slack]
    if len(broken) < len(deciding):
        return None
    return min(broken, key=lambda each: not knowledge.basis(each.row).may_block())


def forbidden(use: Use, rows: Sequence[Limit]) -> Iterator[Limit]:
    """The rows that say that a route kills, where a sig takes it."""
    routes = {use.sig.route} | ({"iv push"} if use.sig.is_push else set())
    for limit in rows:
        if limit.row.get("never") and limit.routes & routes:
            yield limit
