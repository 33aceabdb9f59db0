"""Which drugs an answer has a patient take together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medllm.clinical.case import Case
from medllm.clinical.context.stance import Stance, is_condition, stance_of
from medllm.clinical.drugs.mentions import Mention
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, Span

Origin = Literal["advised", "taken", "condition", "question", "medications"]
_TOPICAL = frozenset(words_in("gel cream ointment lotion topical ophthalmic otic"))
_STILL_ABSORBED = frozenset({
    "timolol", "betaxolol", "carteolol", "levobunolol", "metipranolol", "miconazole", "fentanyl",
    "glyceryl trinitrate", "isosorbide dinitrate", "estradiol", "conjugated oestrogens", "hyoscine",
    "testosterone", "clonidine", "buprenorphine", "salicylic acid",
})  # fmt: skip
"""What acts in all of the body though it goes onto the skin, the eye or into the mouth."""
_OPTIONS = frozenset(words_in("""
    option options alternative alternatives choice choices choose either examples example include
    includes including any one
"""))  # fmt: skip
_ALONE = re.compile(
    r"(?:alternatively|otherwise|or|instead|another|if|failing"
    r"|(?:first|second|third|fourth)[ -]line|(?:as an? |the )?(?:alternative|substitute)"
    r"|step \d|option \d)\b"
)
_YES = re.compile(r"\W*(?:yes|sure|absolutely|certainly|definitely|of course)\b")
_KEPT = re.compile(
    r"\b(?:continue|keep taking|keep on taking|carry on with|go on with|stay on|maintain|take) "
    r"(?:with )?(?:all |the |of |your |her |his |their |current |usual |regular |existing ){1,5}"
    r"(?:medications?|medicines|meds|tablets|drugs|treatment|regimen)\b"
)
"""Advice to go on with the medications of the patient context."""
_MAY_I = re.compile(r"\b(?:can|may|could|should|safe|ok|okay|fine|alright)\b")
_IS_IT_BAD = re.compile(
    r"\b(?:interact\w*|dangerous|avoid|harmful|risks?|problems?|bad|stop|not)\b"
)
_FAR = 10**9
_OF_LAST = re.compile(
    r"(?:[^.;\n]{0,60}, so|[^.;\n]{0,80}[.;](?: (?:you|he|she|they))?(?: (?:can|could|may|should))?"
    r"(?: just)?(?: (?:take|start|begin|try|use))?) (?:with |at |on |take )?"
    r"(?:(?:one|two|half|a)\b[a-z\d -]{0,24}(?:tablet|capsule|sachet|puff|pill)"
    r"|\d[\d.,]{0,5} ?(?:mg|mcg|micrograms?|g|ml|units?)\b)"
)
"""A dose that follows a drug and names none: it is meant of the one named last."""
_LISTING = re.compile(
    r"[\s,;:/()+&-]*(?:(?:and|or|mg|mcg|g|ug|units?|ml|daily|once|twice|a|day|per|every|hours?|bid|tid|"
    r"po|iv|qd|od|bd|tds|prn|tablets?|[\d.x]+(?:mg|mcg|g)?|with|plus|at|night|the|another|an)"
    r"(?:[\s,;:/()+&-]+|$))*"
)
_JOINED = re.compile(r"\b(?:and|with|plus)\b|[+&]")
_ALIAS = re.compile(r" ?[(\[/,=] ?(?:also known as|brand name|e\.g\.|i\.e\.|aka|or)? ?| or | aka ")
_EXAMPLES = re.compile(r"[ ,(]*(?:such as|like|e\.g\.?|for example|including|i\.e\.?)?[ ,:(]*")


@dataclass(frozen=True, slots=True)
class Use:
    """A place where a text says that a drug is, or is to be, taken.

    `options` is a number that uses have in common of which one is to be chosen; `is_alone` marks
    a sentence that offers another way ("Alternatively, …").
    """

    mention: Mention
    origin: Origin
    reading: Reading
    sentence: int
    options: int = -1
    is_alone: bool = False

    @property
    def things(self) -> tuple[str, ...]:
        """The drugs, or the class, that is named."""
        return (self.mention.drug_class,) if self.mention.drug_class else self.mention.drugs

    @property
    def words(self) -> tuple[str, ...]:
        """The name as it is written."""
        return tuple(self.reading.words[self.mention.first : self.mention.last])

    def is_taken_with(self, other: "Use") -> bool:
        """Whether the answer has both taken together."""
        if "advised" not in (self.origin, other.origin) or self is other:
            return False
        if "condition" in (self.origin, other.origin):
            return self.sentence == other.sentence
        if self.origin == other.origin:
            if self.options != -1 and self.options == other.options:
                return False
            is_other_way = self.is_alone or other.is_alone
            return self.sentence == other.sentence or not is_other_way
        return True


def find_uses(case: Case) -> list[Use]:
    """All uses, those of the answer first; what the answer warns against is used nowhere else."""
    warned = {*warned_sentences(case)}
    uses = [
        each
        for each in _in_answer(case)
        if each.origin != "condition" or warned.isdisjoint(each.mention.drugs)
    ]
    if _is_consent(case):
        uses += _asked(case, warned)
    told: list[Use] = [Use(each, "question", case.question, -1) for each in case.question_drugs]
    told += [Use(each, "medications", case.record, -2) for each in case.record_drugs]
    for use in told:
        stance = stance_of(use.reading, use.mention.first, case.knowledge)
        if stance in (Stance.TAKEN, Stance.ADVISED) and warned.isdisjoint(use.mention.drugs):
            uses.append(use)
    kept: Origin = "advised" if _KEPT.search(case.answer.folded.text) else "medications"
    for number, (reading, mentions) in enumerate(case.medications):
        for mention in mentions:
            if warned.isdisjoint(mention.drugs) and not _is_topical(reading, mention):
                uses.append(Use(mention, kept, reading, -2 - number))
    return uses


def _is_consent(case: Case) -> bool:
    """Whether the answer says yes to a question about taking drugs."""
    return bool(
        _YES.match(case.answer.folded.text)
        and _MAY_I.search(case.question.folded.text)
        and not _IS_IT_BAD.search(case.question.folded.text)
    )


def _asked(case: Case, warned: set[str]) -> Iterator[Use]:
    """The drugs of a question that the answer consents to."""
    reading, mentions = case.question, case.question_drugs
    for mention, options in zip(mentions, _options(reading, mentions), strict=True):
        is_free = warned.isdisjoint(mention.drugs) and not _is_topical(reading, mention)
        if is_free and stance_of(reading, mention.first, case.knowledge) is Stance.MENTIONED:
            first, _ = reading.sentence_at(mention.first)
            own = options - _FAR if options >= 0 else -1
            yield Use(mention, "advised", reading, first - _FAR, own)


def places_of(case: Case, uses: Sequence[Use]) -> tuple[Literal["answer", "question"], list[Span]]:
    """Where a finding on some uses stands: in the answer, or else in the question."""
    where: Literal["answer", "question"] = "answer"
    if all(each.reading is not case.answer for each in uses):
        where = "question"
    reading = case.answer if where == "answer" else case.question
    mentions = (each.mention for each in uses if each.reading is reading)
    return where, sorted(reading.place(each.first, each.last) for each in mentions)


def warned_sentences(case: Case) -> Mapping[str, set[Span]]:
    """The sentences of the answer that warn against each drug, or class that it names."""
    found: dict[str, set[Span]] = {}
    for each in case.drugs:
        if stance_of(case.answer, each.first, case.knowledge) is Stance.WARNED:
            sentence = case.answer.sentence_at(each.first)
            for thing in (*each.drugs, *filter(None, (each.drug_class,))):
                found.setdefault(thing, set()).add(sentence)
    return found


def _in_answer(case: Case) -> Iterator[Use]:
    reading = case.answer
    options = _options(reading, case.drugs)
    for at, mention in enumerate(case.drugs):
        origin = _origin(case, mention) or _origin_by_dose(reading, case.drugs[at : at + 2])
        if origin is None or _is_topical(reading, mention) or _is_alias(reading, case.drugs, at):
            continue
        first, _ = reading.sentence_at(mention.first)
        is_alone = _ALONE.match(reading.folded.text, reading.begins[first]) is not None
        yield Use(mention, origin, reading, first, options[at], is_alone)


def _origin(case: Case, mention: Mention) -> Origin | None:
    stance = stance_of(case.answer, mention.first, case.knowledge)
    if stance is Stance.ADVISED:
        return "advised"
    if stance is Stance.TAKEN:
        return "taken"
    is_condition_here = is_condition(case.answer, mention.first, case.knowledge)
    return "condition" if is_condition_here else None


def _origin_by_dose(reading: Reading, mentions: Sequence[Mention]) -> Origin | None:
    """Advised, where the next dose that is advised has no other drug beside it."""
    dose = _OF_LAST.match(reading.folded.text, reading.ends[mentions[0].last - 1])
    near = len(mentions) > 1 and dose and reading.begins[mentions[1].first] < dose.end() + 20
    return "advised" if dose and not near else None


def _is_topical(reading: Reading, mention: Mention) -> bool:
    words, first, last = reading.words, mention.first, mention.last
    is_local = (
        not _TOPICAL.isdisjoint(words[first:last])
        or words[last : last + 1] in (["eye"], ["ear"])
        or (words[first - 1 : first] == ["topical"] and reading.between(first - 1) == " ")
    )
    return is_local and _STILL_ABSORBED.isdisjoint(mention.drugs)


def between(reading: Reading, one: Mention, other: Mention) -> str:
    """What stands between two mentions in the folded text."""
    return reading.folded.text[reading.ends[one.last - 1] : reading.begins[other.first]]


def is_joined(text: str) -> bool:
    """Whether what stands between two drugs joins them: `and`, `with`, `+`."""
    return len(text) < 60 and _JOINED.search(text) is not None


def _is_alias(reading: Reading, mentions: Sequence[Mention], at: int) -> bool:
    """Whether a mention only explains the one before it: `Tylenol (acetaminophen)`."""
    if not at:
        return False
    here, before = mentions[at], mentions[at - 1]
    if before.drug_class:
        return False
    shares = set(here.drugs) <= set(before.drugs) or set(before.drugs) <= set(here.drugs)
    text = between(reading, before, here)
    if shares and here.drugs and len(text) < 30 and _ALIAS.fullmatch(text) is not None:
        return True
    return bool(at > 1 and text.strip() in {"/", "-", "and"}) and _is_part(reading, mentions, at)


def _is_part(reading: Reading, mentions: Sequence[Mention], at: int) -> bool:
    """Whether it is the second part of an explanation: `Norco (hydrocodone/acetaminophen)`."""
    whole, first, here = mentions[at - 2 : at + 1]
    is_whole = len(whole.drugs) > 1 and {*first.drugs, *here.drugs} <= set(whole.drugs)
    return is_whole and between(reading, whole, first).strip() in {"(", "[", "=", ","}


def _options(reading: Reading, mentions: Sequence[Mention]) -> list[int]:
    """For each mention of a text the number of the options that it is one of, or -1."""
    found: list[int] = []
    begin = 0
    for at in range(1, len(mentions) + 1):
        if at == len(mentions) or not _is_listed(reading, mentions[at - 1], mentions[at]):
            number = _number(reading, mentions, begin, at)
            found += [number] * (at - begin)
            begin = at
    return found


def _number(reading: Reading, mentions: Sequence[Mention], begin: int, end: int) -> int:
    """The number of a list of mentions where it is one of options, else that of its heading."""
    inner = [between(reading, *mentions[at : at + 2]) for at in range(begin, end - 1)]
    if any(re.search(r"\bor\b", text) and "and" not in text for text in inner):
        return begin
    if begin and mentions[begin - 1].drug_class and end - begin > 1:
        text = between(reading, mentions[begin - 1], mentions[begin])
        if len(text) < 20 and _EXAMPLES.fullmatch(text):
            return begin
    return _heading(reading, mentions[begin].first)


def _heading(reading: Reading, word: int) -> int:
    """The number of the heading of options that an item stands under, or -1."""
    first, _ = reading.sentence_at(word)
    known = reading.built(_headings)
    passed = []
    while first not in known:
        passed.append(first)
        if not first or not reading.begins_line(first):
            break
        first = reading.sentence_at(first - 1)[0]
    number = known.get(first, -1)
    if first not in known and first in passed:
        last = reading.sentence_at(first)[1]
        is_heading = reading.between(last - 1).lstrip("* ").startswith(":")
        if is_heading and not _OPTIONS.isdisjoint(reading.words[first:last]):
            number = 1_000_000 + first
    known.update(dict.fromkeys(passed, number))
    return number


def _headings(reading: Reading) -> dict[int, int]:
    """The numbers of headings by sentence, filled as they are asked for."""
    return {}


def _is_listed(reading: Reading, one: Mention, other: Mention) -> bool:
    """Whether two mentions stand in one list of drugs, with or without their doses."""
    if other.first >= reading.sentence_at(one.first)[1]:
        return False
    text = between(reading, one, other)
    is_apart = bool(re.search(r"\b(?:with|plus)\b|[+&]", text))
    return len(text) < 60 and not is_apart and _LISTING.fullmatch(text) is not None
