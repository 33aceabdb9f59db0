"""Contraindications of the drugs that an answer advises to take."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from medllm.clinical.case import Case
from medllm.clinical.context.stance import Stance, stance_of
from medllm.clinical.contraindications.circumstances import (
    Circumstances,
    known_circumstances,
    sentence_circumstances,
)
from medllm.clinical.contraindications.tables import ANY_DRUG, SAME
from medllm.clinical.drugs.mentions import Mention
from medllm.clinical.drugs.names import DrugNames, build_drug_names
from medllm.clinical.finding import SEVERITIES, Finding, NotChecked, Severity
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row
from medllm.clinical.text.reading import Span

MAY_BE_PREGNANT = (12, 55)
"""Years of age in which pregnancy is worth a note where nothing is said of it (a convention)."""
_VERBS: dict[Severity, str] = {
    "contraindicated": "must not be used",
    "major": "should be avoided",
    "moderate": "needs caution",
    "minor": "is usually possible, with care,",
    "info": "is worth a thought",
}


@dataclass(frozen=True)
class Contraindications:
    """The rows by the ingredients that they are about."""

    of_drug: Mapping[str, tuple[Row, ...]]
    of_any: tuple[Row, ...]
    names: DrugNames


def build_contraindications(knowledge: Knowledge) -> Contraindications:
    """The index of the rows; ask `knowledge.built` for it."""
    names = knowledge.built(build_drug_names)
    of_drug: dict[str, list[Row]] = {}
    for row in knowledge.rows("contraindications"):
        for drug in _members(row["drugs"], names) - _members(row.get("except", ()), names):
            of_drug.setdefault(drug, []).append(row)
    of_any = tuple(of_drug.pop(ANY_DRUG, ()))
    return Contraindications({drug: tuple(rows) for drug, rows in of_drug.items()}, of_any, names)


def find_contraindications(case: Case) -> Iterator[Finding | NotChecked]:
    """What speaks against each drug that the answer advises, for this patient."""
    advised = [each for each in case.drugs if _is_advised(case, each)]
    if not advised:
        return
    rules = case.knowledge.built(build_contraindications)
    known = known_circumstances(case)
    sentences = {case.answer.sentence_at(each.first) for each in advised}
    by_sentence = {each: sentence_circumstances(case, known, each) for each in sentences}
    seen: set[tuple[str, str]] = set()
    for mention in advised:
        own = by_sentence[case.answer.sentence_at(mention.first)]
        for row, drug, is_known in _worst_rows(rules, mention, own):
            if (row["id"], drug) not in seen:
                seen.add((row["id"], drug))
                place = case.answer.place(mention.first, mention.last)
                message, severity = _message(row, drug, own, is_known=is_known)
                yield _finding(case.knowledge, row, message, severity, place)
        for drug in mention.drugs:
            yield from _not_checked(rules, drug, own)


def _is_advised(case: Case, mention: Mention) -> bool:
    return stance_of(case.answer, mention.first, case.knowledge) is Stance.ADVISED


def _worst_rows(
    rules: Contraindications, mention: Mention, known: Circumstances
) -> Iterator[tuple[Row, str, bool]]:
    """For each kind of circumstance the worst row that holds or may hold, and its drug or class."""
    worst: dict[str, tuple[Row, str, bool]] = {}
    for row, drug, name in _rows_of(rules, mention):
        holds = _holds(row, drug, known, rules.names)
        if holds is False or (holds is None and not _is_worth_a_note(row, known)):
            continue
        kind = row["id"].split(".")[0]
        found = row, name, holds is True
        if kind not in worst or _rank(found) > _rank(worst[kind]):
            worst[kind] = found
    yield from worst.values()


def _rows_of(rules: Contraindications, mention: Mention) -> Iterator[tuple[Row, str, str]]:
    """Rows with a drug that is asked about and its name; of a class those about the whole class."""
    for drug in mention.drugs:
        yield from ((row, drug, drug) for row in (*rules.of_drug.get(drug, ()), *rules.of_any))
    if name := mention.drug_class:
        for drug in rules.names.members_of.get(name, ())[:1]:
            rows = rules.of_drug.get(drug, ())
            yield from ((row, drug, name) for row in rows if name in row["drugs"])


def _rank(found: tuple[Row, str, bool]) -> tuple[bool, int, bool]:
    row, _, is_known = found
    return is_known, SEVERITIES.index(row["severity"]), row["verified"]


def _holds(row: Row, drug: str, known: Circumstances, names: DrugNames) -> bool | None:
    """Whether all that a row asks for is so; None where something is not known."""
    terms = [_term(key, value, drug, known, names) for key, value in row["when"].items()]
    return False if False in terms else None if None in terms else True


def _term(
    key: str, value: object, drug: str, known: Circumstances, names: DrugNames
) -> bool | None:
    if key == "condition":
        return not known.conditions.isdisjoint(_listed(value))
    if key == "not_condition":
        return known.conditions.isdisjoint(_listed(value))
    if key == "allergy":
        return _is_allergic(_listed(value), drug, known.allergens, names)
    if key in {"pregnant", "breastfeeding"}:
        state: bool | None = getattr(known, key)
        return None if state is None else state == value
    measured: float | None = getattr(known, key.split("_")[0])
    if measured is None:
        return None
    limit = float(str(value))
    return measured >= limit if key.endswith("_from") else (
        measured > limit if key.endswith("_above") else measured < limit
    )  # fmt: skip


def _is_allergic(listed: list[str], drug: str, allergens: set[str], names: DrugNames) -> bool:
    own = names.classes_of.get(drug, frozenset())
    if listed == [SAME]:
        return drug in allergens or not own.isdisjoint(allergens)
    members = _members(listed, names)
    return any(each in listed or each in members for each in allergens if each != drug)


def _is_worth_a_note(row: Row, known: Circumstances) -> bool:
    """Whether a row is told although something is not known: pregnancy, or its week."""
    when = row["when"]
    if "pregnant" not in when or "condition" in when:
        return False
    if known.pregnant:
        return True  # only the week is not known
    low, high = MAY_BE_PREGNANT
    is_possible = not known.is_male and (known.age is None or low <= known.age <= high)
    return row["severity"] == "contraindicated" and "weeks_from" not in when and is_possible


def _message(row: Row, name: str, known: Circumstances, *, is_known: bool) -> tuple[str, Severity]:
    """What a row says of a drug, and how severe that is, given what is not known."""
    severity: Severity = row["severity"]
    message = f"{name[:1].upper()}{name[1:]} {_VERBS[severity]} {row['text']}"
    if is_known:
        return f"{message}.", severity
    if known.pregnant:
        capped = min(severity, "moderate", key=SEVERITIES.index)
        return f"{message}; the week of pregnancy is not given.", capped
    return f"{message}; whether the patient is pregnant is not given.", "info"


def _finding(
    knowledge: Knowledge, row: Row, message: str, severity: Severity, place: Span
) -> Finding:
    return Finding(
        rule=row["id"],
        kind="allergy" if "allergy" in row["when"] else "contraindication",
        severity=severity,
        message=message,
        action=row.get("action", ""),
        basis=knowledge.basis(row),
        spans=(place,),
    )


def _not_checked(rules: Contraindications, drug: str, known: Circumstances) -> Iterator[NotChecked]:
    """What would have to be known of a drug, and drugs of which no row says anything."""
    rows = rules.of_drug.get(drug)
    if rows is None:
        yield NotChecked("contraindication", drug)
        return
    for key, words in (("egfr", "kidney function"), ("age", "age")):
        asked = [row for row in rows if any(each.startswith(key) for each in row["when"])]
        grave = [row for row in asked if row["severity"] == "contraindicated"]
        if grave and getattr(known, key) is None:
            yield NotChecked("contraindication", f"{drug}: the {words} is not given")


def _members(listed: Iterable[str], names: DrugNames) -> set[str]:
    return {drug for name in listed for drug in names.members_of.get(name, (name,))}


def _listed(value: object) -> list[str]:
    return value if isinstance(value, list) else []
