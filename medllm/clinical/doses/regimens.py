"""From the elements after a drug's name to its sigs, one after the other."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from medllm.clinical.doses.amounts import NO_UNIT, Amount, Range
from medllm.clinical.doses.elements import Bare, Count, Doses, Element, Lasting
from medllm.clinical.doses.frequencies import Row
from medllm.clinical.doses.products import in_order
from medllm.clinical.doses.sig import Sig, StatedLimit
from medllm.clinical.doses.vocabulary import MILLILITRES, ROUTE_OF_FORM, TOTAL, Often, Sign

Joined = Literal["", "and", "then", "or"]
_AND = re.compile(r"\b(?:and|plus|also|with|additional|additionally|another|extra)\b|[&+]")
_OR = re.compile(r"\b(?:or|alternatively|instead)\b")
_INCREMENT = re.compile(r" ?(?:increments?|steps)\b")
_LINK = re.compile(r"[,;&+]|\b(?:and|or|then|plus|to)\b")
_BRACKET = re.compile(r"[(=]|i\.e\.")
_ONE = Decimal(1)
_MODES = ("by", "most", "most a day", "over", "above", "repeat")
_OF_A_SIG = ("route", "form", "once", "needed", "divided", "load", "push")
_MOSTS = ("most", "most a day")
_SEVERAL = "several"
_BY_MOUTH = "by mouth, it seems"
"""The route of a volume where no other one is named."""
LEAST_DISPENSED = 14
MOST_BETWEEN = 10
"""Characters between "above" and the amount that it is of."""


@dataclass(slots=True)
class _Draft:
    """A sig that is being read; `amount` is of a form where `count` says how many."""

    amount: Amount | None = None
    count: Range | None = None
    form: str = ""
    often: Often | None = None
    row: Row | None = None
    is_once: bool = False
    route: str = ""
    as_needed: bool = False
    days: Decimal | None = None
    doses: Decimal | None = None
    is_divided: bool = False
    is_loading: bool = False
    is_push: bool = False
    limit: StatedLimit | None = None
    joined: Joined = ""
    begin: int = -1
    end: int = -1

    @property
    def is_begun(self) -> bool:
        """Whether it has a dose."""
        return self.amount is not None or self.count is not None

    def reach(self, element: Element, is_part: bool) -> None:
        """Note where the sig stands: from the element that begins it to the last that is of it."""
        if self.begin < 0:
            self.begin, self.end = element.begin, element.end
        elif is_part:
            self.end = element.end

    def take(self, sign: Sign, is_set_aside: bool) -> None:
        """Note a route, a form, or how it is taken; what is said of repeating is set aside."""
        if sign.kind == "route":
            is_same = self.route in ("", sign.what, _BY_MOUTH)
            self.route = sign.what if is_same else _SEVERAL
        elif sign.kind == "form":
            self.form = self.form or sign.what
            self.route = self.route or ROUTE_OF_FORM.get(sign.what, "")
        elif sign.kind == "once":
            self.is_once |= self.often is None and not is_set_aside
        elif sign.kind == "needed":
            self.as_needed |= not is_set_aside
        elif sign.kind == "push":
            self.is_push, self.route = True, self.route or "iv"
        self.is_divided |= sign.kind == "divided"
        self.is_loading |= sign.kind == "load"


@dataclass(slots=True)
class _Regimens:
    """The drafts of one drug; `strength` is what one of its tablets or millilitres holds."""

    text: str
    draft: _Draft = field(default_factory=_Draft)
    done: list[_Draft] = field(default_factory=list)
    strength: Amount | None = None
    bare: Amount | None = None
    mode: str = ""
    is_changing: bool = False
    joined: Joined = ""
    last_end: int = 0
    done_before: int = 0

    def add(self, element: Element) -> None:
        """Take in the next element; `mode` is what the words before it make of it."""
        meaning = element.meaning
        gap = self.text[self.last_end : element.begin]
        if isinstance(meaning, Sign):
            self._sign(meaning)
        elif isinstance(meaning, Amount):
            self._amount(meaning, gap)
        elif isinstance(meaning, Count):
            self._count(meaning, gap)
        elif isinstance(meaning, Bare):
            value = Range(meaning.value, meaning.value)
            bare = Amount((value,), "mg", "form", NO_UNIT, element.begin, element.end)
            self.bare = self.strength = self.draft.amount = bare
        elif self.mode == "above":
            self.mode = ""
        elif self.mode not in ("by", "repeat") and not self._is_of_change():
            self._rest(meaning, gap)
        if self.draft.is_begun or self.draft.limit:
            is_link = isinstance(meaning, Sign) and meaning.kind not in _OF_A_SIG
            self.draft.reach(element, is_part=self.mode != "by" and not is_link)
        self.last_end = element.end

    def _is_of_change(self) -> bool:
        """Whether a dose is about to change: "increase every 2 weeks to" says how fast."""
        return self.is_changing and not self.draft.is_begun and self.mode != "limited"

    def finish(self, joined: Joined) -> None:
        """End the sig that is being read; the next one is joined to it like this."""
        if self.draft.is_begun or self.draft.limit:
            self.done.append(self.draft)
            self.draft = _Draft(joined=joined)
        self.joined = joined

    def begin_sentence(self) -> None:
        """What was said of how a dose changes is over; a dose with its frequency is complete."""
        self.mode, self.is_changing = "", False
        if self.draft.often is not None or self.draft.is_once:
            self.finish("then")
        self.done_before = len(self.done)

    def end_sentence(self) -> None:
        """A limit in a sentence of its own is of the dose before it."""
        draft, is_alone = self.draft, len(self.done) == self.done_before
        if is_alone and draft.limit and not draft.is_begun and not self.is_changing and self.done:
            self.done[-1].limit = self.done[-1].limit or draft.limit
            self.draft = _Draft(joined=draft.joined)

    def _sign(self, sign: Sign) -> None:
        if sign.kind in ("then", "change", "to"):
            self.mode = ""
            self.is_changing = sign.kind != "then"
            if self.draft.is_begun:
                self.finish("then")
        elif sign.kind == "up to":
            is_most = self.draft.is_begun and not self.is_changing and self.mode != "by"
            self.mode = "most" if is_most else ""
        elif sign.kind in _MODES:
            self.mode = sign.kind
        else:
            is_set_aside = self.mode == "repeat" or self._is_of_change()
            self.draft.take(sign, is_set_aside)

    def _amount(self, amount: Amount, gap: str) -> None:
        draft = self.draft
        if self._is_product(draft, amount, gap):
            self.strength, draft.amount = draft.amount, None
        if self._is_no_dose(amount, gap):
            return
        self.mode = ""
        if draft.amount is not None and draft.amount is self.bare and draft.often is None:
            draft.amount = None  # the number was of the name: "Zantac 360, 150 mg"
        is_of_count = draft.amount is None and draft.count is not None
        is_of_count &= draft.often is None or not (self.strength or _LINK.search(gap))
        is_bracketed = bool(_BRACKET.search(gap))
        is_strength = amount.per in ("form", "mL") and not draft.is_begun
        if is_strength or (is_of_count and (amount.per == "form" or not is_bracketed)):
            self.strength = draft.amount = amount
        elif amount.unit == "mL" and self._is_of_strength(draft):
            draft.amount, draft.count = self.strength, amount.values[0]
            draft.route = draft.route or _BY_MOUTH
        elif not draft.is_begun:
            draft.amount = amount
        elif is_bracketed and (draft.often is None or draft.amount is None):
            if draft.amount is None:  # "two tablets (1000 mg)"
                draft.amount, draft.count = amount, None
        elif amount.unit != "mL":
            self.finish(_joint(gap))
            self.draft.amount = amount

    def _is_product(self, draft: _Draft, amount: Amount, gap: str) -> bool:
        """Whether what was read is of a tablet or millilitre: "500 mg tablet 1,000 mg BID"."""
        before = draft.amount
        if before is None or draft.count is not None or draft.often or self.mode or draft.is_once:
            return False
        if before.per == "mL":
            return amount.unit != "mL"
        is_form = bool(draft.form) and before.per in ("", "form") and amount.unit == before.unit
        return is_form and not _LINK.search(gap) and not _BRACKET.search(gap)

    def _is_no_dose(self, amount: Amount, gap: str) -> bool:
        """Whether an amount is a limit, a step, or a rate of infusion; a limit is noted."""
        if self.draft.is_begun and amount.unit.endswith(("/min", "/s")):
            return True
        if self.mode in _MOSTS:
            value = max(each.high for each in amount.values)
            is_daily = amount.per == "day" or self.mode == "most a day"
            self._limit(StatedLimit(value, amount.unit, "day" if is_daily else ""))
            return True
        if self.mode == "over":
            self.mode = ""
            return True
        if _INCREMENT.match(self.text, amount.end):
            self.mode = "by"
        return self._is_step(gap)

    def _is_step(self, gap: str) -> bool:
        """Whether "by" or "above" stands before; what follows is of that amount too."""
        if self.mode == "by" or (self.mode == "above" and len(gap) <= MOST_BETWEEN):
            self.mode = "by"
            return True
        return False

    def _limit(self, limit: StatedLimit) -> None:
        if self.draft.limit is None:
            self.draft.limit = limit
        self.mode = "limited"

    def _is_of_strength(self, draft: _Draft) -> bool:
        """Whether a volume says how much is taken of what a millilitre is known to hold."""
        is_known = self.strength is not None and self.strength.per == "mL"
        return is_known and draft.count is None and draft.amount in (None, self.strength)

    def _count(self, count: Count, gap: str) -> None:
        if self.mode in _MOSTS:
            self._limit(StatedLimit(count.range.high, count.form or "tablet", ""))
            return
        if self._is_step(gap):
            return
        draft = self.draft
        if draft.often is not None and draft.is_begun and count.range.low >= LEAST_DISPENSED:
            return  # "2 QDS, 100 tabs": how many are dispensed
        if draft.count is not None or (draft.is_begun and draft.often is not None):
            self.finish(_joint(gap))
            draft = self.draft
        if draft.amount is not None:
            self.strength = draft.amount
        draft.amount = draft.amount or self.strength
        spoon = MILLILITRES.get(count.form, _ONE)
        draft.count = count.range.times(spoon)
        draft.form = count.form or draft.form
        draft.route = draft.route or ROUTE_OF_FORM.get(count.form, "")

    def _rest(self, meaning: Often | Row | Doses | Lasting, gap: str) -> None:
        draft = self.draft
        if self.mode == "limited" and isinstance(meaning, Often) and draft.limit and ")" not in gap:
            per: Literal["day", "week"] = "week" if meaning.days == 7 else "day"
            if not draft.limit.per:
                draft.limit = StatedLimit(draft.limit.value, draft.limit.unit, per)
            self.mode = ""
        elif isinstance(meaning, Often):
            draft.often = _with(draft.often, meaning, gap)
        elif isinstance(meaning, Row):
            draft.row = meaning
            if meaning.unit and draft.amount is None:
                one = Range(_ONE, _ONE)
                draft.amount = Amount((one,), meaning.unit, "", "", self.last_end, self.last_end)
        elif isinstance(meaning, Doses):
            if meaning.is_divided:
                draft.is_divided = True
                draft.often = Often(meaning.number)
            else:
                draft.doses = meaning.number
        elif draft.is_begun and draft.days is None:
            draft.days = meaning.days


def _with(before: Often | None, often: Often, gap: str) -> Often:
    """The frequency of two: times of the day and days of the week add up, else the rarer one."""
    if before is None:
        return often
    if TOTAL in (before.at, often.at):
        return often if before.at == TOTAL else before
    if before.at and often.at and before.days == often.days and len(gap) <= 12:
        return Often(before.times + often.times, before.days, often.at)
    if before.at and not often.at and before.days == 1 and len(gap) <= 2:
        return often
    return before


def _joint(gap: str) -> Joined:
    if _OR.search(gap):
        return "or"
    return "and" if _AND.search(gap) else "then"


def read_regimens(
    text: str, drugs: tuple[str, ...], mention: int, sentences: Iterable[list[Element]]
) -> Iterator[Sig]:
    """The sigs of a mention of a drug, given the elements that are said of it, by sentence."""
    regimens = _Regimens(text)
    for elements in sentences:
        if elements:
            regimens.begin_sentence()
        for element in elements:
            regimens.last_end = regimens.last_end or element.begin
            regimens.add(element)
        regimens.end_sentence()
    regimens.finish("")
    for draft in regimens.done:
        if sig := _sig(draft, drugs, mention):
            yield sig


def _sig(draft: _Draft, drugs: tuple[str, ...], mention: int) -> Sig | None:
    doses, daily, often = _taken(draft, _doses(draft, drugs))
    if not doses and not daily and not draft.limit:
        return None
    amount = draft.amount
    unit = (amount.unit or "mg") if amount else draft.form or "tablet"
    return Sig(
        drugs=drugs, mention=mention, doses=doses, daily=daily,
        per_form=in_order(drugs, _per_form(draft)), unit=unit if doses or daily else "",
        often=often, is_once=draft.is_once and often is None, route=_route(draft),
        as_needed=draft.as_needed, days=draft.days, is_loading=draft.is_loading,
        is_push=draft.is_push, limit=draft.limit, problem=amount.problem if amount else "",
        joined=draft.joined, begin=draft.begin, end=draft.end,
    )  # fmt: skip


def _doses(draft: _Draft, drugs: tuple[str, ...]) -> tuple[Range, ...]:
    """The amount of each ingredient at once, or on the day or in the week that it is of."""
    amount = draft.amount
    if amount is None:
        return (draft.count,) if draft.count else ()
    factor = _ONE
    if not amount.unit and draft.form == "puff":  # "250/50" of an inhaler is in micrograms
        factor = Decimal("0.001")
    values = amount.values
    if amount.per == "mL" and draft.count is None:
        values = amount.whole  # "20 mEq in 100 mL"; none of a mere concentration
    doses = tuple(each.times(factor) for each in in_order(drugs, values))
    if draft.count and amount.unit != "%":
        doses = tuple(each.times(draft.count) for each in doses)
    return doses


def _taken(
    draft: _Draft, doses: tuple[Range, ...]
) -> tuple[tuple[Range, ...], tuple[Range, ...], Often | None]:
    """The single doses, the totals of a day where the text gives them, and how often at most."""
    amount, often = draft.amount, draft.often
    daily: tuple[Range, ...] = ()
    if draft.is_divided and often == Often(_ONE):
        often = None  # "15 mg daily in divided doses"
    if often and often.at == TOTAL:
        doses, daily, often = (), doses, None
    if amount and amount.per == "week":
        often = Often(_ONE, Decimal(7))
    if amount and amount.unit != "%" and (amount.per == "day" or draft.is_divided):
        doses, daily = (), doses
    if draft.row and doses:
        counts = draft.row.counts
        often = Often(Decimal(sum(1 for each in counts if each)))
        if draft.count is None and any(each not in (0, 1) for each in counts):
            daily = tuple(each.times(sum(counts, Decimal(0))) for each in doses)
            doses = tuple(each.times(max(counts)) for each in doses)
    if draft.doses and often and often.days == 1:
        often = Often(min(often.times, draft.doses))
    return doses, daily, often


def _per_form(draft: _Draft) -> tuple[Range, ...]:
    amount = draft.amount
    if amount is None or amount.per == "mL":
        return ()
    is_of_form = amount.per == "form" or draft.count or draft.form == "tablet"
    return amount.values if is_of_form else ()


def _route(draft: _Draft) -> str:
    return {_SEVERAL: "", _BY_MOUTH: "oral"}.get(draft.route, draft.route)
