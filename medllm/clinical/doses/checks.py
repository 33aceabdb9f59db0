"""Doses above the largest labelled ones: the family `find_doses`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from medllm.clinical.case import Case
from medllm.clinical.doses.amounts import NO_UNIT, TWO_READINGS
from medllm.clinical.doses.judging import (
    TENFOLD,
    Excess,
    forbidden,
    judge,
    limits_for,
    severity_of,
    too_often,
)
from medllm.clinical.doses.limits import Limit, Limits, Measure, Setting, build_limits
from medllm.clinical.doses.meant import is_for_child, is_meant, read_who
from medllm.clinical.doses.products import products
from medllm.clinical.doses.sig import Sig
from medllm.clinical.doses.sigs import read_sigs
from medllm.clinical.doses.uses import Use, by_drug, total_of_day, uses_of
from medllm.clinical.doses.vocabulary import Often
from medllm.clinical.finding import SEVERITIES, Finding, NotChecked, Severity
from medllm.clinical.text.folding import fold
from medllm.clinical.text.reading import Span

_OPIOIDS = "opioids"
_CAUTION_MME = Decimal(50)
_FORTYFOLD = Decimal(40)


def find_doses(case: Case) -> Iterator[Finding | NotChecked]:
    """What the largest labelled doses say of the doses that an answer advises.

    A dose for a child is held against an adult's largest alone; of a drug, a route or a unit that
    the table does not hold it is said that it is not checked.
    """
    mentions = products(case.answer, case.drugs)
    if not mentions:
        return
    sigs = [
        each
        for each in read_sigs(case.answer, mentions)
        if is_meant(case.answer, each, mentions[each.mention].first)
    ]
    if not sigs:
        return
    limits = case.knowledge.built(build_limits)
    check = _Check(case, _setting(case))
    uses: list[Use] = []
    for sig, for_child in zip(sigs, _children(case, sigs), strict=True):
        found = list(uses_of(case.answer, mentions[sig.mention], sig, case.patient.weight_kg))
        if sig.problem.startswith(TWO_READINGS):
            yield NotChecked("dose", f"{' and '.join(sig.drugs)}: {sig.problem}")
            continue
        if for_child:
            yield NotChecked("dose", f"{' and '.join(sig.drugs)}: a dose for a child")
            yield from check.of_routes(found, limits)
            yield from check.of_child(found, limits)
            continue
        if not found and (sig.doses or sig.daily):
            yield NotChecked("dose", f"{' and '.join(sig.drugs)}: the part of each is not stated")
        uses += found
    for drug, own in by_drug(uses).items():
        rows = limits.get(drug)
        if rows:
            yield from check.of_drug(drug, own, rows)
        else:
            yield NotChecked("dose", f"{drug}: no limit is known")
    yield from check.opioids(uses)


def _setting(case: Case) -> Setting:
    patient = case.patient
    taken = frozenset(
        drug for _, mentions in case.medications for each in mentions for drug in each.drugs
    )
    conditions = " ; ".join(fold(each).text for each in patient.conditions)
    text = f"{case.answer.folded.text} ; {case.question.folded.text} ; {conditions}"
    named = frozenset(drug for each in case.drugs for drug in each.drugs)
    return Setting(patient, taken, named, text)


def _uses_of_medications(case: Case) -> Iterator[Use]:
    for reading, mentions in case.medications:
        named = products(reading, mentions)
        for sig in read_sigs(reading, named):
            yield from uses_of(reading, named[sig.mention], sig, case.patient.weight_kg)


def _children(case: Case, sigs: Sequence[Sig]) -> Iterator[bool]:
    """Whether each sig is for a child: as the patient is, as its sentence or the question says."""
    patient = case.patient
    who = read_who(case.answer)
    told = [who.is_child[-1] for who in map(read_who, (case.question, case.record)) if who.is_child]
    by_question = told[0] if told and patient.age is None else False
    for sig in sigs:
        said = is_for_child(case.answer, who, sig.begin, sig.end)
        yield patient.is_child or (by_question if said is None else said)


@dataclass(slots=True)
class _Verdict:
    """What is wrong with the doses of one drug, what may be, and what could not be compared."""

    found: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    unknown: dict[str, None] = field(default_factory=dict)

    def results(self) -> Iterator[Finding | NotChecked]:
        """The worst that is wrong, else the first note; and what is not checked."""
        if self.found:
            yield max(self.found, key=lambda each: (SEVERITIES.index(each.severity),
                                                    each.basis.may_block()))  # fmt: skip
        elif self.notes:
            yield self.notes[0]
        yield from (NotChecked("dose", each) for each in self.unknown)


@dataclass(frozen=True, slots=True)
class _Dose:
    """A dose to compare: `column` says whether it is of one time, a day or a week."""

    measure: Measure
    column: str
    uses: Sequence[Use]
    besides: str = ""


class _Check:
    """The rows held against the uses of one drug after the other."""

    def __init__(self, case: Case, setting: Setting) -> None:
        self._case, self._setting = case, setting
        self._knowledge = case.knowledge
        self._taken = [*_uses_of_medications(case)]

    def of_routes(self, uses: Sequence[Use], limits: Limits) -> Iterator[Finding]:
        """The uses by a route that kills, whatever the dose and whoever the patient."""
        for use in uses:
            for limit in forbidden(use, limits.get(use.drug, ())):
                yield self._forbidden(use.drug, use, limit)

    def of_child(self, uses: Sequence[Use], limits: Limits) -> Iterator[Finding]:
        """Doses for a child that are above what an adult takes at once at most."""
        for use in uses:
            own = limits_for(use, limits.get(use.drug, ()), self._setting)
            if use.single and not use.single.unit.endswith("/kg"):
                above, *_ = judge(use.single, "single", own, self._setting, self._knowledge)
                if above:
                    message = _message(use.drug, above, "single", [use])
                    yield self._finding(above.limit, "major", message, [use])

    def of_drug(
        self, drug: str, uses: Sequence[Use], rows: Sequence[Limit]
    ) -> Iterator[Finding | NotChecked]:
        """The worst that is wrong with a drug's doses; else what might be, or was not checked."""
        verdict = _Verdict()
        for use in uses:
            verdict.found += [self._forbidden(drug, use, each) for each in forbidden(use, rows)]
        if not verdict.found:
            limits = self._limits(uses, rows)
            for use in uses:
                if often := too_often(use, limits[id(use)], self._knowledge):
                    verdict.found.append(self._too_often(drug, use, often))
                if use.single and not limits[id(use)]:
                    verdict.found += self._by_any_route(drug, use, rows)
            for dose in self._doses(uses, limits):
                own = {id(each): each for use in dose.uses for each in limits[id(use)]}
                self._compare(drug, dose, list(own.values()), verdict)
        yield from verdict.results()

    def _limits(self, uses: Sequence[Use], rows: Sequence[Limit]) -> dict[int, list[Limit]]:
        """The rows that are of each use; looked for once for uses that are alike."""
        alike: dict[object, list[Limit]] = {}
        limits = {}
        for use in uses:
            key = (use.name, use.sig.route, use.is_extended, use.single)
            if key not in alike:
                alike[key] = limits_for(use, rows, self._setting)
            limits[id(use)] = alike[key]
        return limits

    def _doses(self, uses: Sequence[Use], limits: Mapping[int, Sequence[Limit]]) -> Iterator[_Dose]:
        """The single doses, the weekly ones that a row has a limit of, and the day's total."""
        for use in uses:
            if use.single:
                yield _Dose(use.single, "single", [use])
            often = use.sig.often
            if often and use.single and often.days == 7 and _any(limits[id(use)], "weekly"):
                week = Measure(use.single.value * often.times, use.single.unit)
                yield _Dose(week, "weekly", [use])
        for use in uses:
            if use.states_limit and use.daily:
                yield _Dose(use.daily, "daily", [use])
        day = total_of_day(self._case.answer, uses)
        if day and (taken := self._taken_besides(day[0], day[1])):
            whole = Measure(day[0].value + taken, day[0].unit)
            yield _Dose(whole, "daily", day[1], " with what the patient takes")
        elif day and _is_of_a_day(day[1]) and any(_any(limits[id(e)], "daily") for e in day[1]):
            yield _Dose(day[0], "daily", day[1])

    def _taken_besides(self, total: Measure, uses: Sequence[Use]) -> Decimal:
        """How much of the ingredient the patient takes in another product than the answer's."""
        answered = [{*use.sig.drugs} for use in uses]
        return max(
            (
                use.daily.value
                for use in self._taken
                if use.drug == uses[0].drug and {*use.sig.drugs} not in answered
                if use.daily and use.daily.unit == total.unit
            ),
            default=Decimal(0),
        )

    def _compare(self, drug: str, dose: _Dose, limits: Sequence[Limit], verdict: _Verdict) -> None:
        above, maybe, is_compared = judge(
            dose.measure, dose.column, limits, self._setting, self._knowledge
        )
        no_unit = any(each.sig.problem == NO_UNIT for each in dose.uses)
        if no_unit and (above.ratio >= TENFOLD if above else not is_compared):
            verdict.unknown[f"{drug}: {NO_UNIT} stated"] = None
        elif above:
            severity = severity_of(above)
            if dose.uses[0].states_limit and severity == "contraindicated":
                severity = "major"
            message = _message(drug, above, dose.column, dose.uses, dose.besides)
            verdict.found.append(self._finding(above.limit, severity, message, dose.uses))
        elif slip := [
            each for each in maybe if each.dose.unit[-3:] == "/kg" and each.ratio >= TENFOLD
        ]:
            message = _message(drug, slip[0], dose.column, dose.uses)
            verdict.found.append(self._finding(slip[0].limit, "major", message, dose.uses))
        elif maybe:
            verdict.notes.append(self._note(drug, dose, maybe))
        elif not is_compared and (wrong := _in_mass(dose, limits)):
            message = f"{drug}: {dose.measure}, while it is measured in units."
            verdict.found.append(self._finding(wrong, "major", message, dose.uses))
        elif not is_compared and not any("mme" in each.row for each in limits):
            verdict.unknown[_not_compared(drug, dose, limits)] = None

    def _forbidden(self, drug: str, use: Use, limit: Limit) -> Finding:
        way = "undiluted" if use.sig.is_push else use.sig.route
        message = f"{drug} {way}: {limit.row['when']}."
        return self._finding(limit, "contraindicated", message, [use])

    def _by_any_route(self, drug: str, use: Use, rows: Sequence[Limit]) -> Iterator[Finding]:
        """Ten times the largest dose by another route, where the table has none by this one."""
        anyhow = replace(use, sig=replace(use.sig, route=""))
        limits = limits_for(anyhow, rows, self._setting)
        assert use.single
        above, _, _ = judge(use.single, "single", limits, self._setting, self._knowledge)
        if above and above.ratio >= TENFOLD:
            message = _message(drug, above, "single", [use])
            yield self._finding(above.limit, "major", message, [use])

    def _too_often(self, drug: str, use: Use, limit: Limit) -> Finding:
        often = use.sig.often or Often(Decimal(1))
        days = Decimal(limit.row["every_days"])
        severity: Severity = "contraindicated" if often.a_day * days >= 4 else "major"
        period = {7: "once a week", 30: "once a month"}.get(int(days), f"every {days} days")
        when = limit.row["when"]
        message = f"{drug}: given {_rate(often)}, while it is given {period} ({when})."
        return self._finding(limit, severity, message, [use])

    def _note(self, drug: str, dose: _Dose, maybe: Sequence[Excess]) -> Finding:
        found = min(maybe, key=lambda each: each.measure.value)
        said, when = _amount(dose.measure, dose.column), found.limit.row["when"]
        message = f"{drug}: {said} is above {found.measure}, a limit that may apply ({when})."
        return self._finding(found.limit, "info", message, dose.uses)

    def opioids(self, uses: Sequence[Use]) -> Iterator[Finding]:
        """Where all opioids of an answer come to 50 mg of oral morphine a day or more."""
        table = self._knowledge.built(build_limits)
        rows = table.get(_OPIOIDS, ())
        if not rows:
            return
        total, parts, limited = Decimal(0), list[Use](), list[bool]()
        for own in by_drug(uses).values():
            known = table.get(own[0].drug, ())
            factor = next((each for each in known if "mme" in each.row), None)
            day = self._morphine(own, factor) if factor else Decimal(0)
            if day:
                total += day
                parts += own
                limited.append(any(e.daily and "only_for" not in e.row for e in known))
        # one opioid that has a largest dose of its own, such as tramadol, is held against that
        if total >= _CAUTION_MME and rows[0].daily and limited != [True]:
            dose = Measure(total, "mg")
            above = Excess(rows[0], rows[0].daily, dose, total / rows[0].daily.value)
            message = (
                f"opioids: the doses come to {total.normalize():f} mg of oral morphine a day; "
                f"from {rows[0].daily} on the risks grow (caution, no ceiling)."
            )
            severity = severity_of(above)
            if severity == "contraindicated" and above.ratio < _FORTYFOLD:
                severity = "major"  # no ceiling: large doses are right for some
            yield self._finding(rows[0], severity, message, parts)

    def _morphine(self, uses: Sequence[Use], factor: Limit) -> Decimal:
        per_mg = Decimal(str(factor.row["mme"]))
        patches = [use.single.value for use in uses if use.single and use.single.unit == "mg/h"]
        if patches and "transdermal" in factor.routes:
            return max(patches) * 1000 * per_mg
        day = total_of_day(self._case.answer, [e for e in uses if e.sig.route in ("", "oral")])
        if not day or day[0].unit != "mg" or "oral" not in factor.routes:
            return Decimal(0)
        return day[0].value * per_mg

    def _finding(
        self, limit: Limit, severity: Severity, message: str, uses: Sequence[Use]
    ) -> Finding:
        origin = self._case.answer.folded.origin
        spans: list[Span] = [origin(use.sig.begin, use.sig.end) for use in uses]
        return Finding(
            rule=limit.row["id"],
            kind="dose",
            severity=severity,
            message=message,
            basis=self._knowledge.basis(limit.row),
            action="Check the dose before anybody takes it." if severity != "info" else "",
            spans=tuple(dict.fromkeys(spans)),
        )


def _is_of_a_day(uses: Sequence[Use]) -> bool:
    """Whether one of them is taken more often than once a week."""
    return not all(each.sig.often and each.sig.often.days >= 7 for each in uses)


def _any(limits: Sequence[Limit], column: str) -> bool:
    return any(each.of(column) for each in limits)


def _in_mass(dose: _Dose, limits: Sequence[Limit]) -> Limit | None:
    """The row of a drug that is measured in units alone, where a text gives it in mg."""
    known = [each for each in limits if each.of(dose.column)]
    measures = [measure for each in known if (measure := each.of(dose.column))]
    is_of_units = bool(known) and all(each.unit.startswith("U") for each in measures)
    return known[0] if is_of_units and dose.measure.unit == "mg" else None


def _not_compared(drug: str, dose: _Dose, limits: Sequence[Limit]) -> str:
    """Which drug, by which route, and why its dose was compared with nothing."""
    route, unit = dose.uses[0].sig.route, dose.measure.unit
    way = f"{drug}, {route}" if route else drug
    known = [measure for each in limits if (measure := each.of(dose.column) or each.daily)]
    if any(each.unit == f"{unit}/kg" for each in known):
        return f"{way}: the limit is per kg, and the weight is not known"
    return f"{way}: no limit in {unit} is known" if known else f"{way}: no limit is known"


def _amount(dose: Measure, column: str) -> str:
    return f"{dose} {({'single': 'at once', 'daily': 'a day', 'weekly': 'a week'})[column]}"


def _rate(often: Often) -> str:
    times, days = f"{often.times.normalize():f}", int(often.days)
    period = {1: "a day", 7: "a week", 30: "a month"}.get(days, f"in {days} days")
    return f"{times} times {period}" if often.times != 1 else f"once {period}"


def _message(drug: str, above: Excess, column: str, uses: Sequence[Use], besides: str = "") -> str:
    dose, when = _amount(above.dose, column), above.limit.row["when"]
    if not above.measure.value:
        return f"{drug}: no dose of it is to be given ({when})."
    if uses[0].states_limit:
        return f"{drug}: {dose} is called the most, while that is {above.measure} ({when})."
    said = "up to " if column == "daily" and any(each.sig.often for each in uses) else ""
    together = besides or (f" in {len(uses)} prescriptions together" if len(uses) > 1 else "")
    message = f"{drug}: {said}{dose}{together} is above the largest dose, {above.measure} ({when})"
    if above.ratio < TENFOLD:
        return f"{message}."
    if not above.dose.unit.startswith("mg") or above.ratio >= 2 * 1000:
        return f"{message}; is the unit right?"
    return f"{message}; {'was mcg meant, not mg' if above.ratio >= 50 else 'ten times too much'}?"
