"""The words of prescriptions: how often, by which route, as needed, first and then, at most."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from medllm.clinical.text.phrases import Phrases
from medllm.clinical.text.spelled import SMALL_NUMBERS

NUMBERS = {
    "half": Decimal("0.5"),
    **{word: Decimal(value) for value, word in enumerate(SMALL_NUMBERS[1:13], 1)},
}


@dataclass(frozen=True, slots=True)
class Often:
    """At most so many times in so many days; a time of the day (`at`) adds to another one.

    Where `at` is `TOTAL`, the dose is all that is taken in that time ("6 g a day").
    """

    times: Decimal
    days: Decimal = Decimal(1)
    at: str = ""

    @property
    def a_day(self) -> Decimal:
        """How many times on an average day."""
        return self.times / self.days


@dataclass(frozen=True, slots=True)
class Sign:
    """What a phrase says: its kind, and which one of its kind."""

    kind: str
    what: str = ""


_OFTEN = {
    (1, 1): "od, qd, q.d., qday, q day, q daily, daily, every day, each day, once in a day, "
    "one a day, everyday, day",
    (2, 1): "bd, bid, b.i.d., b.d., bds, b.d.s., bis in die",
    (3, 1): "tid, tds, t.i.d., t.d.s., before meals, with meals, after meals, with each meal, "
    "before each meal, after each meal, with every meal, before every meal, before food thrice",
    (4, 1): "qid, qds, q.i.d., q.d.s., qidachs, achs",
    (1, 2): "qod, q.o.d., eod, every other day, alternate days, alternate day, every second day, "
    "every alternate day, alternate nights, every other night, alternate mornings",
    (1, 7): "weekly, qw, qwk, q week, every week, each week, a week, per week, once every week",
    (1, 14): "fortnightly, every fortnight, every other week, alternate weeks",
    (1, 30): "monthly, every month, each month, a month, per month, once every month",
    (1, 365): "yearly, annually, every year, a year, per year",
    (24, 1): "hourly, every hour",
}
_AT = {
    "morning": "mane, om, qam, q.a.m., in the morning, every morning, each morning, morning, "
    "with breakfast, before breakfast, after breakfast, at breakfast, bbf, breakfast, in the am, "
    "in am, every am, each am",
    "noon": "at noon, noon, at lunchtime, lunchtime, with lunch, at lunch, before lunch, "
    "after lunch, at midday, midday, in the afternoon, every afternoon",
    "evening": "qpm, q.p.m., in the pm, in pm, every pm, each pm, in the evening, every evening, "
    "each evening, evening, with dinner, "
    "with the evening meal, with evening meal, before dinner, after dinner, with supper, at dinner",
    "night": "nocte, hs, h.s., qhs, q.h.s., nightly, at night, every night, each night, night, "
    "at bedtime, before bed, bedtime, bed time, before bedtime, before sleep",
}
_IN_A_DAY = (
    "a day, per day, per diem, in 24 hours, in a day, in one day, within 24 hours, "
    "in any 24 hours, in any 24 hour period, in a 24 hour period, per 24 hours, over 24 hours"
)
TOTAL = "in all"
_DAYS = {
    day: f"{day[:3]}, {day[:4]}, {day[:5]}, {day}, {day}s"
    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
}
_ROUTES = {
    "oral": "po, p.o., oral, orally, by mouth, per os, chew, chewed, swallow, swallowed, syrup, "
    "syr, oral solution, odt, elixir",
    "iv": "iv, i.v., intravenous, intravenously, i/v",
    "im": "im, i.m., intramuscular, intramuscularly, i/m",
    "sc": "sc, s.c., s/c, subq, sub q, subcut, sub cut, subcutaneous, subcutaneously, sq, "
    "under the skin",
    "sublingual": "sl, s.l., s/l, sublingual, sublingually, under the tongue",
    "rectal": "pr, p.r., rectal, rectally, per rectum, diastat",
    "inhaled": "inhaled, inhaler, inh, mdi",
    "nebulised": "neb, nebs, nebulised, nebulized, nebuliser, nebulizer",
    "topical": "topical, topically, cream, gel, ointment, lotion",
    "nasal": "nasal, intranasal, valtoco, intranasally, nasally, nasal spray",
    "eye": "ou, both eyes, each eye, eye drop, eye drops, eye ointment, affected eye, right eye, "
    "left eye",
    "ear": "ear drop, ear drops, both ears, each ear, affected ear",
    "transdermal": "td, transdermal, transdermally",
    "vaginal": "pv, p.v., vaginal, vaginally, pessary",
    "intrathecal": "intrathecal, intrathecally, i.t.",
    "epidural": "epidural, epidurally",
    "buccal": "buccal, buccally",
}
_FORMS = {
    "tablet": "tab, tabs, tablet, tablets, cap, caps, capsule, capsules, caplet, caplets, pill, "
    "pills",
    "puff": "puff, puffs, inhalation, inhalations, actuation, actuations",
    "drop": "drop, drops, gtt, gtts",
    "spray": "spray, sprays",
    "patch": "patch, patches",
    "suppository": "suppository, suppositories",
    "sachet": "sachet, sachets, packet, packets",
    "ampoule": "ampoule, ampoules, amp, amps, ampule, vial, vials, nebule, nebules, pen, pens",
    "teaspoon": "teaspoon, teaspoons, tsp, teaspoonful, teaspoonfuls",
    "tablespoon": "tablespoon, tablespoons, tbsp, tablespoonful",
}
ROUTE_OF_FORM = {"tablet": "oral", "puff": "inhaled", "patch": "transdermal",
                 "suppository": "rectal", "teaspoon": "oral", "tablespoon": "oral"}  # fmt: skip
MILLILITRES = {"teaspoon": Decimal(5), "tablespoon": Decimal(15)}
_SIGNS = {
    "once": "stat, once, once only, single dose, one dose, one off, immediately, one time, "
    "as a single dose, as one dose",
    "needed": "prn, p.r.n., sos, as needed, when needed, if needed, as required, when required, "
    "if required, if necessary, when necessary",
    "divided": "divided doses, in divided doses, divided, equally divided doses",
    "by": "by, increments of, steps of, decrements of",
    "to": "increase to, increased to, increasing to, titrate to, titrate up to, titrated to, "
    "increase up to, increasing up to, target, to a target of, to a target dose of",
    "up to": "up to, to",
    "repeat": "repeat, repeated, may repeat, can repeat, may be repeated, can be repeated",
    "then": "then, thereafter, subsequently, afterwards, followed by, after that, and then, "
    "maintenance, maintenance dose, first dose, initially, starting dose, on day, on days, "
    "first day, next day, start, initial dose",
    "change": "increase, increased, increasing, titrate, titrated, reduce, reduced, decrease, "
    "decreased, taper, tapered, double, doubled, may increase, titrating, gradually",
    "load": "loading, loading dose, load",
    "most": "max, maximum, not exceed, not to exceed, no more than, at most, never exceed, "
    "not more than, not take more than, not be more than, not use more than, never take more than, "
    "never more than, no higher than, not above, not be exceeded, maximum dose, max dose, "
    "maximum of, upper limit, "
    "up to a maximum of, to a maximum of, to max, nte",
    "most a day": "maximum daily dose, max daily dose, maximum daily, "
    "maximum total daily dose, maximum recommended daily dose, daily maximum of, "
    "daily maximum is, daily limit is",
    "above": "more than, exceed, exceeding, exceeds, exceeded, above, greater than, in excess of, "
    "over, less than, below, under, higher than, fewer than, at least",
    "push": "push, iv push, undiluted, i.v. push, intravenous push, bolus, "
    "iv bolus, i.v. bolus, rapid iv injection",
    "over": "at a rate of",
}  # fmt: skip


def _rows() -> Iterator[tuple[str, Often | Sign]]:
    for (times, days), phrases in _OFTEN.items():
        often = Often(Decimal(times), Decimal(days))
        yield from ((each, often) for each in phrases.split(", "))
    for at, phrases in _AT.items():
        yield from ((each, Often(Decimal(1), Decimal(1), at)) for each in phrases.split(", "))
    in_all = Often(Decimal(1), Decimal(1), TOTAL)
    yield from ((each, in_all) for each in _IN_A_DAY.split(", "))
    for day, phrases in _DAYS.items():
        yield from ((each, Often(Decimal(1), Decimal(7), day)) for each in phrases.split(", "))
    for kind, table in (("route", _ROUTES), ("form", _FORMS)):
        for what, phrases in table.items():
            yield from ((each, Sign(kind, what)) for each in phrases.split(", "))
    for kind, phrases in _SIGNS.items():
        yield from ((each, Sign(kind)) for each in phrases.split(", "))


@cache
def sign_phrases() -> Phrases[Often | Sign]:
    """All phrases with their meanings, ready to be found."""
    return Phrases(_rows())


FORMS = {word: form for form, words in _FORMS.items() for word in words.split(", ")}
"""Each way of writing what is counted, in lower case → the form."""
