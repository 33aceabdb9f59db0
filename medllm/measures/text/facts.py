"""What a clinical text states, in a form in which two texts can be compared."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from decimal import Context as Digits
from itertools import pairwise

from medllm.clinical.context import Context, context_of
from medllm.clinical.context.stance import Stance, stance_of
from medllm.clinical.doses.sig import Sig
from medllm.clinical.doses.sigs import read_sigs
from medllm.clinical.drugs.mentions import Mention, find_drugs
from medllm.clinical.entities import Entity, find_entities
from medllm.clinical.entities.words import normal
from medllm.clinical.measurements import Measurement
from medllm.clinical.measurements.names import find_names
from medllm.clinical.measurements.quantities import quantity
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import Reading, Span
from medllm.measures.text.dates import find_dates
from medllm.measures.text.follow_ups import find_follow_ups
from medllm.measures.text.values import find_values

Key = tuple[object, ...]
CLASSES = ("diagnosis", "finding", "medication", "vital sign", "laboratory value", "procedure",
           "follow-up", "date")  # fmt: skip
"""The classes of facts. Findings are symptoms and signs."""
VITAL_SIGNS = frozenset({
    "heart rate", "respiratory rate", "systolic blood pressure", "diastolic blood pressure",
    "mean arterial pressure", "body temperature", "oxygen saturation", "oxygen flow",
    "fraction of inspired oxygen", "Glasgow Coma Scale", "body weight", "body height",
    "body mass index", "urine output", "hourly urine output", "pain score", "NEWS2",
})  # fmt: skip
_CLASS_OF = {"disease": "diagnosis", "finding": "finding", "procedure": "procedure"}
_SIDE = re.compile(r"^(?:left|right|bilateral) (?=\w)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_STOPPED_BEFORE = re.compile(
    r"(?<!not )(?<!never )\b(?:"
    r"(?:stopped|discontinued|ceased|held|holding|hold|withheld)"
    r"(?: (?:taking|using|his|her|the|home))*|"
    r"(?:discharged|taken|weaned|came|come|is|was|now|stay(?:ed)?) off(?: (?:of|his|her|the))*|"
    r"no longer (?:takes?|taking|uses?|using|on))[: ]+$"
)
_STOPPED_AFTER = re.compile(
    r"(?: (?:\d[\w.,/%-]*|mg|mcg|g|units?|tablets?|po|iv|daily|bid|tid|once|twice|a day|"
    r"therapy|then|is|are|was|were|has|have|had|been|being|both|all|to be))*"
    r"(?:[.;] (?:both|all|these|they)(?: (?:are|were|have|been))*)?"
    r"[ (:-]{1,3}(?:stopped|discontinued|d/?c'?d|ceased|withdrawn|withheld|held|on hold|"
    r"weaned(?: off)?|now off|allerg(?:y|ic)|intoleran(?:ce|t)|hypersensitiv(?:e|ity))\b"
)
_JOINED = re.compile(r"(?P<last>,? (?:and|&|plus) |/| ?\+ ?)|, ")
_MOST_JOINED = 8
_OTHER_THING = frozenset({"non", "pre", "pseudo", "near", "anti", "sub", "post"})
"""Before a name these make another thing of it: non-Hodgkin lymphoma, pre-eclampsia."""
_NEAR = 120
"""Characters before and after a drug in which it may be said to be stopped."""
_BEGUN_AGAIN = re.compile(
    r"(?<!not )(?<!not be )\b(?:restarted|resumed|reintroduced|started again|begun again)\b"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a text states.

    Another text states it, too, where it `gives` one of the keys that this `wants`; where it gives
    one of `opposites` instead, it states the contrary, of what their values say. `side` is left,
    right or bilateral, and `names` by what the fact is known. It `may` state each of the several
    things that a short form means.
    """

    kind: str
    wants: frozenset[Key]
    gives: frozenset[Key]
    place: Span
    opposites: Mapping[Key, str] = field(default_factory=dict)
    side: str = ""
    names: frozenset[str] = frozenset()
    may: frozenset[Key] = frozenset()


def find_facts(reading: Reading) -> tuple[Fact, ...]:
    """The facts of a text, in order; a value that its words leave open has each reading."""
    knowledge = shipped_knowledge()
    drugs = find_drugs(reading, knowledge)
    taken = {word for each in drugs for word in range(each.first, each.last)}
    entities = [each for each in find_entities(reading, is_note=True) if each.first not in taken]
    found = [
        *_named(reading, entities), *_medications(reading, drugs), *_unlisted(reading, entities),
        *_values(reading), *_follow_ups(reading), *_dates(reading),
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.place))


def _named(reading: Reading, entities: list[Entity]) -> Iterator[Fact]:
    """Diagnoses, findings and procedures; what may come ("return if …") is no fact."""
    for entity in entities:
        context = context_of(reading, entity.first, entity.last)
        if entity.type not in _CLASS_OF or context.hypothetical:
            continue
        words = " ".join(normal(word) for word in reading.words[entity.first : entity.last])
        if context.laterality:
            words = _SIDE.sub("", words)  # which is told by `side`
        whole = {*entity.ids, words, *entity.names}
        if entity.first and reading.between(entity.first - 1) == "-":
            before = reading.words[entity.first - 1]
            whole = {f"{before} {words}"} if before in _OTHER_THING else whole
        names = (*whole, *entity.wider)
        shorter = {end for name in names for end in (*entity.wider, *_ends_of(name))}
        # what is negative or unremarkable is the finding of a procedure, which was done
        is_, others = ("present", {}) if entity.type == "procedure" else _stance_of(context)
        given = ("present", "denied") if _is_asked(reading, entity.first) else (is_,)
        yield Fact(
            _CLASS_OF[entity.type],
            frozenset((name, is_) for name in whole),
            frozenset((name, each) for name in whole | shorter for each in (is_, *given)),
            entity.place(reading),
            {(name, other): flip for name in whole for other, flip in others.items()},
            context.laterality or "",
            frozenset(whole | shorter),
            frozenset((name, is_) for name in entity.may),
        )  # fmt: skip


def _ends_of(name: str) -> Iterator[str]:
    """The less exact forms of a name: pneumonia of lobar pneumonia."""
    words = name.split()
    at = range(1, len(words))
    return (" ".join(words[each:]) for each in at if words[each - 1] not in _OTHER_THING)


def _is_asked(reading: Reading, word: int) -> bool:
    """Whether a word stands in a question, whose answer may deny it or not."""
    return "?" in reading.between(reading.sentence_at(word)[1] - 1)


def _stance_of(context: Context) -> tuple[str, dict[str, str]]:
    """How something is meant, and what would be the contrary, of what."""
    if context.experiencer == "family":
        return "family", {"present": "whose it is"}
    if context.negated:
        return "denied", {"present": "negation"}
    return "present", {"denied": "negation", "family": "whose it is"}


def _medications(reading: Reading, drugs: tuple[Mention, ...]) -> Iterator[Fact]:
    """Each drug with its dose and how often it is taken, as far as the text says so."""
    sigs = read_sigs(reading, drugs)
    for number, mention in enumerate(drugs):
        if not mention.drugs:
            continue
        is_, others = _how_taken(reading, drugs[number : number + _MOST_JOINED])
        place = reading.place(mention.first, mention.last)
        contrary: dict[Key, str] = {(mention.drugs, other): "stopping" for other in others}
        doses = set[frozenset[Key]]()
        for sig in sigs:
            if sig.mention == number:
                whole = reading.folded.origin(sig.begin, sig.end)
                place = min(place[0], whole[0]), max(place[1], whole[1])
                doses |= set(_doses(sig))
        name = frozenset({(mention.drugs, is_)})
        named = name if others else name | {(mention.drugs, "not given")}
        yield Fact("medication", named, name, place, contrary)
        for dose in doses:
            yield Fact("medication", dose, dose, place)


def _how_taken(reading: Reading, drugs: tuple[Mention, ...]) -> tuple[str, tuple[str, ...]]:
    """How the first of the drugs is meant, and what would be the contrary.

    A drug that is merely mentioned, as what causes a rash, is no contrary of one to avoid.
    """
    stance = stance_of(reading, drugs[0].first)
    if _is_stopped(reading, drugs, is_warned=stance is Stance.WARNED):
        return "not given", ("given",)
    return "given", () if stance is Stance.MENTIONED else ("not given",)


def _is_stopped(reading: Reading, drugs: tuple[Mention, ...], *, is_warned: bool) -> bool:
    """Whether the first of the drugs is warned against or was stopped, and not begun again.

    What stands behind several that are joined holds for each: `ramipril and furosemide held`, but
    of a mere list (`aspirin, ramipril held`) for the last.
    """
    text, last = reading.folded.text, 0
    for number, (one, other) in enumerate(pairwise(drugs), 1):
        joint = _JOINED.fullmatch(text, reading.ends[one.last - 1], reading.begins[other.first])
        if not joint:
            break
        last = number if joint["last"] else last
    sentence_begin, sentence_end = reading.sentence_at(drugs[0].first)
    begin, end = reading.begins[drugs[0].first], reading.ends[drugs[last].last - 1]
    before = text[max(reading.begins[sentence_begin], begin - _NEAR) : begin]
    after = text[end : end + _NEAR]
    rest = after[: max(reading.ends[sentence_end - 1] - end, 0)]
    is_so = is_warned or _STOPPED_BEFORE.search(before) or _STOPPED_AFTER.match(after)
    return bool(is_so) and not _BEGUN_AGAIN.search(rest)


def _doses(sig: Sig) -> Iterator[frozenset[Key]]:
    """What a sig says of each dose, and of how often it is taken.

    `20 mg daily` and `20 mg a day` are alike; a dose is also known by the total of its day.
    """
    a_day = sig.often.a_day if sig.often else None
    if not sig.doses and sig.daily:
        a_day = a_day or Decimal(1)
    for each in sig.doses or sig.daily:
        keys: set[Key] = {(sig.drugs, sig.unit, each.low, each.high)}
        if a_day:
            total = each if not sig.doses else each.times(a_day)
            keys.add((sig.drugs, sig.unit, "a day", total.low, total.high))
        yield frozenset(keys)
    if a_day and (sig.doses or sig.daily):
        yield frozenset({(sig.drugs, "a day", a_day)})


def _unlisted(reading: Reading, entities: list[Entity]) -> Iterator[Fact]:
    """Drugs that are known by name alone; what is measured in blood, as sodium, is none."""
    text = reading.folded.text
    measured = [each for each in find_names(text) if text[each.begin : each.end] != "oxygen"]
    for entity in entities:
        begin = reading.begins[entity.first]
        if entity.type == "drug" and not any(a.begin <= begin < a.end for a in measured):
            words = " ".join(normal(word) for word in reading.words[entity.first : entity.last])
            known = {*entity.ids, words, *entity.names}
            names: frozenset[Key] = frozenset((name, "given") for name in known)
            yield Fact("medication", names, names, entity.place(reading))


def _values(reading: Reading) -> Iterator[Fact]:
    """Vital signs and laboratory values."""
    for each in find_values(reading.text):
        if each.attribute:
            kind = "vital sign" if each.attribute in VITAL_SIGNS else "laboratory value"
            yield Fact(kind, wanted_keys(each), rounded_keys(each), (each.begin, each.end))


def value_keys(measured: Measurement) -> frozenset[Key]:
    """The values that a measurement states, each with what was measured and in which unit.

    One that was written in another unit is also what it is in three digits, or to a tenth.
    """
    values = set(measured.readings)
    if measured.attribute and _is_converted(measured):
        values |= {_tenth(each) for each in measured.readings}
        values |= {Digits(prec=3).create_decimal(each) for each in measured.readings}
    return _keys(measured, values)


def _keys(measured: Measurement, values: Iterable[Decimal], *how: str) -> frozenset[Key]:
    known = measured.attribute, measured.unit, measured.sign.strip("~")
    return frozenset((*known, value, measured.upper, *how) for value in values)


def wanted_keys(measured: Measurement) -> frozenset[Key]:
    """What another text must state for it: its value, or what is that in its unit: 154 lb, 70 kg.

    Such a value must stand in the other text as it is, for to round it twice would alter it.
    """
    return value_keys(measured) | _keys(measured, _written_alike(measured), "as written")


def _is_converted(measured: Measurement) -> bool:
    return measured.written_unit not in {"", measured.unit}


def _written_alike(measured: Measurement) -> Iterator[Decimal]:
    """The values in three digits that are the same number in the other unit that was written.

    There are none where that number is so rough that what is alike would differ by over 2 %.
    """
    numbers = _NUMBER.findall(measured.quote)
    is_plain = len(numbers) == 1 and measured.attribute and _is_converted(measured)
    if measured.value is None or not is_plain:
        return
    written, half = Decimal(numbers[0]), Decimal(5).scaleb(-1 - len(numbers[0].partition(".")[2]))
    unit = quantity(measured.attribute)
    ends = [unit.to_usual(written + side * half, measured.written_unit) for side in (-1, 1)]
    low, high = min(ends), max(ends)
    step = Decimal(1).scaleb(high.adjusted() - 2)
    if low <= measured.value <= high and high - low <= measured.value / 50:
        first = (low / step).to_integral_value(ROUND_CEILING)
        for count in range(int((high / step - first).to_integral_value(ROUND_CEILING)) + 1):
            if (value := (first + count) * step) < high:
                yield value


def _tenth(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.1"), ROUND_HALF_UP)


def rounded_keys(measured: Measurement) -> frozenset[Key]:
    """The values that it gives: as it is, rounded by a digit, or as a conversion gives it.

    Amounts that no quantity is named for, such as doses, are never rounded.
    """
    if not measured.attribute or measured.upper is not None:
        return value_keys(measured)
    return _keys(measured, measured.readings, "as written") | frozenset(
        (*key[:3], value, None)
        for key in value_keys(measured)
        for value in _roundings(Decimal(str(key[3])), _is_converted(measured))
    )


def _roundings(value: Decimal, is_converted: bool) -> set[Decimal]:
    exponent = value.normalize().as_tuple().exponent
    digits = -min(int(exponent), 0)
    fewer = range(max(digits - 1, 0), digits + 1) if not is_converted else range(digits + 1)
    return {value.quantize(Decimal(1).scaleb(-each), ROUND_HALF_UP) for each in fewer} | {value}


def _follow_ups(reading: Reading) -> Iterator[Fact]:
    """When and with whom a sentence has a follow-up, or only that there is one."""
    for place, told in find_follow_ups(reading):
        for each in told or ((),):
            key = ("follow-up", *each)
            yield Fact("follow-up", frozenset({key}), frozenset({key, ("follow-up",)}), place)


def _dates(reading: Reading) -> Iterator[Fact]:
    """The dates; one without a year is also given by one with it."""
    for date in find_dates(reading.text):
        wants: frozenset[Key] = frozenset(("date", *each) for each in date.readings)
        short: frozenset[Key] = frozenset(("date", "", *each[1:]) for each in date.readings)
        yield Fact("date", wants, wants | short, date.place)
