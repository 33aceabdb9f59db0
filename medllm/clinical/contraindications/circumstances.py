"""What is known of a patient's circumstances: from the context, and from what texts say."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from medllm.clinical.case import Case
from medllm.clinical.context import context_of
from medllm.clinical.drugs.mentions import Mention, find_drugs
from medllm.clinical.entities.short_forms import find_known
from medllm.clinical.measurements import find_measurements
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading, Span, read

_STATES = {
    "pregnant": "pregnant, pregnancy, expecting a baby, trimester, gestation, antenatal, "
    "expectant mother, pregnancies",
    "breastfeeding": "breastfeeding, breast feeding, breastfeed, breast feed, breastfed, "
    "lactating, lactation, nursing mother, nursing my, nursing her, nursing a",
    "": "pregnancy test, trying to get pregnant, planning a pregnancy, ectopic pregnancy, "
    "avoid pregnancy, prevent pregnancy",
}
"""Words for a state; those without one hide what they contain."""
_AGE = re.compile(
    r"\b(\d{1,3})[ -]?(years?|yrs?|y/?o|months?|mo|weeks?|wks?|days?)\b[ -]?"
    r"(old|of age|male|female|man|woman|boy|girl)?|"
    r"\b(?:aged?|age is|age of) (\d{1,3})\b|\b(newborn|neonate)\b"
)
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_WEEKS = re.compile(r"\b(\d{1,2})(?: ?\+ ?\d)? ?(?:weeks?|wks?)\b(?! ago)|\bweek (\d{1,2})\b")
_TRIMESTERS = {"first trimester": 8, "second trimester": 20, "third trimester": 32}
_ALLERGIC = re.compile(
    r"\b(?:allergic (?:reaction )?to|allergy to|allergies to|anaphylaxis (?:to|from|after|with)|"
    r"allergies:|allergy:|reaction to|hypersensitiv\w+ to|intoleran\w+ (?:to|of))"
)
_REACTION = re.compile(r"[ (:,=-]{1,4}(?:allerg|anaphyla|rash\b|hives|urticaria|angio-?o?edema)")
"""What stands behind a drug that somebody does not bear."""
_NORMAL = (["normal"], ["wnl"], ["neg"], ["negative"])
"""After the name of a test of a condition: `G6PD normal`."""
_RENAL = re.compile(r"\b(?:e?gfr|crcl|clearance|filtration)\b")
_REACH = 40
"""Characters after a cue of allergy in which its drugs begin."""


@dataclass(slots=True)
class Circumstances:
    """What is known; None is not known. Ages in years, kidney function in mL/min(/1.73 m2).

    `conditions` are ids; `allergens` ids of drugs, and names of classes that a text named.
    """

    age: float | None = None
    is_male: bool = False
    pregnant: bool | None = None
    weeks: float | None = None
    breastfeeding: bool | None = None
    egfr: float | None = None
    conditions: set[str] = field(default_factory=set)
    allergens: set[str] = field(default_factory=set)


def known_circumstances(case: Case) -> Circumstances:
    """What the patient context says; where it says nothing, the question, and then the record."""
    patient = case.patient
    known = Circumstances(
        age=patient.age,
        is_male=patient.sex == "male",
        pregnant=patient.pregnant,
        breastfeeding=patient.breastfeeding,
        egfr=patient.egfr,
    )
    for text in patient.conditions:
        named = read(text)
        _add_states(known, named, (0, len(named.words)), case.knowledge, is_list=True)
    for text in patient.allergies:
        known.allergens |= _names(find_drugs(read(text), case.knowledge, is_list=True))
    for reading, drugs in ((case.question, case.question_drugs), (case.record, case.record_drugs)):
        if reading.words:
            _add_text(known, reading, drugs, case.knowledge)
    return known


def sentence_circumstances(case: Case, known: Circumstances, sentence: Span) -> Circumstances:
    """What is known, and what a sentence of the answer says of the patient that it advises on."""
    own = Circumstances(
        known.age, known.is_male, known.pregnant, known.weeks, known.breastfeeding, known.egfr,
        {*known.conditions}, {*known.allergens},
    )  # fmt: skip
    _add_states(own, case.answer, sentence, case.knowledge)
    return own


def _add_text(
    known: Circumstances, reading: Reading, drugs: Iterable[Mention], knowledge: Knowledge
) -> None:
    folded = reading.folded.text
    _add_states(known, reading, (0, len(reading.words)), knowledge)
    if known.age is None:
        known.age = _age(folded)
    if known.pregnant:
        known.weeks = _weeks(folded)
    if known.egfr is None and _RENAL.search(folded):
        known.egfr = _kidney_function(reading)
    known.allergens |= _names(_allergens(reading, drugs))


def _add_states(
    known: Circumstances,
    reading: Reading,
    part: Span,
    knowledge: Knowledge,
    *,
    is_list: bool = False,
) -> None:
    """Add the conditions and states that a part of a text says the patient has."""
    for begin, end, (name, conditions) in _find_states(reading, part, knowledge):
        if reading.words[end : end + 1] in _NORMAL:
            continue
        context = context_of(reading, begin, end, knowledge)
        if conditions:
            if not context.negated and (is_list or not context.hypothetical):
                known.conditions |= conditions
        elif name and getattr(known, name) is None and not context.hypothetical:
            # whose it is may be unclear ("my wife"): only what is surely the patient's lets through
            is_own = context.experiencer == "patient" and not context.historical
            if not context.negated or is_own:
                setattr(known, name, not context.negated)


def _find_states(
    reading: Reading, part: Span, knowledge: Knowledge
) -> Iterator[tuple[int, int, tuple[str, frozenset[str]]]]:
    """The states in a part of a text, in short forms, too: first and last word, and what it is."""
    states, (first, last) = knowledge.built(build_states), part
    for begin, end, state in states.find(reading.words[first:last]):
        yield first + begin, first + end, state
    for begin, end, meaning in find_known(reading, knowledge, part):
        for name in meaning.names:
            yield from ((begin, end, state) for *_, state in states.find(name.split()))


def build_states(knowledge: Knowledge) -> Phrases[tuple[str, frozenset[str]]]:
    """The phrases of a state, with its name, and those of conditions: all that a phrase names."""
    named: dict[str, set[str]] = {}
    for row in knowledge.rows("conditions"):
        for name in (str(row["id"]), *row.get("names", ())):
            named.setdefault(" ".join(words_in(name)), set()).add(str(row["id"]))
    states = (
        (phrase, (state, frozenset[str]()))
        for state, phrases in _STATES.items()
        for phrase in phrases.split(", ")
    )
    return Phrases([*states, *((words, ("", frozenset(ids))) for words, ids in named.items())])


def _names(mentions: Iterable[Mention]) -> set[str]:
    return {
        name
        for each in mentions
        for name in (each.drugs if not each.drug_class else (each.drug_class,))
    }


def _allergens(reading: Reading, drugs: Iterable[Mention]) -> Iterator[Mention]:
    """The drugs after a cue (`allergic to`), and those before the word allergy."""
    cues = [each.end() for each in _ALLERGIC.finditer(reading.folded.text)]
    for mention in drugs:
        begin = reading.begins[mention.first]
        follows = any(0 <= begin - cue <= _REACH for cue in cues)
        if follows or _REACTION.match(reading.folded.text, reading.ends[mention.last - 1]):
            yield mention


def _age(folded: str) -> float | None:
    for each in _AGE.finditer(folded):
        if each[5]:
            return 0.02
        if each[4]:
            return float(each[4])
        if each[3]:
            return float(each[1]) * _YEARS[each[2][0]]
    return None


def _weeks(folded: str) -> float | None:
    for words, weeks in _TRIMESTERS.items():
        if words in folded:
            return weeks
    found = [int(each[1] or each[2]) for each in _WEEKS.finditer(folded)]
    return next((float(each) for each in found if 4 <= each <= 43), None)


def _kidney_function(reading: Reading) -> float | None:
    for one in find_measurements(reading.text):
        if one.attribute in {"eGFR", "creatinine clearance"} and one.value is not None:
            return float(one.value) - (0.001 if one.sign == "<" else 0)
    return None
