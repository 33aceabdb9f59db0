"""Red flags: emergencies that a question describes, and what an answer to one must (not) say."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from medllm.clinical.case import Case
from medllm.clinical.finding import Finding, NotChecked, Severity
from medllm.clinical.red_flags.escalation import render_escalation
from medllm.clinical.red_flags.numbers import find_department, find_numbers, find_people
from medllm.clinical.red_flags.patterns import Content, Hits, Pattern, Vocabulary, content_of
from medllm.clinical.red_flags.said import (
    Asides,
    build_asides,
    is_directed,
    is_forbidden,
    not_meant,
)
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row
from medllm.clinical.text.reading import Reading, Span

URGENCIES = ("emergency", "same day")
_MISSING: dict[str, Severity] = {"emergency": "major", "same day": "moderate"}
_WRONG: dict[str, Severity] = {"emergency": "contraindicated", "same day": "major"}
ENOUGH = {
    "emergency": ("@emergency_care | $department",),
    "same day": ("@emergency_care | $department | @urgent_care",),
}
"""What an answer must say for each urgency, besides what a row accepts as well."""
WRONG = ("@waiting",)
"""What it must not say for any."""
IN_CARE = "@in_care"
"""Where the patient is in the care of clinicians already, nobody need be called."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A family of emergencies: its row, and its patterns as they are read."""

    row: Row
    signs: tuple[Pattern, ...]
    must_say: tuple[Pattern, ...]
    must_not_say: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What a question tells, whatever is answered to it."""

    content: Content
    flags: tuple[tuple[Flag, tuple[Span, ...]], ...]
    """The families of which it has a sign, and where the first of each stands."""
    is_in_care: bool


@dataclass(frozen=True, slots=True)
class Flags:
    """All families, and the words that they are made of."""

    vocabulary: Vocabulary
    flags: tuple[Flag, ...]
    in_care: Pattern
    asides: Asides
    begun_by: Mapping[str, Sequence[tuple[int, int]]]
    """Which sign (number of its flag, its own) a concept of its shortest group may begin."""

    def described_in(self, reading: Reading) -> Described:
        """What a question tells."""
        content = content_of(reading)
        hits = _said_hits(self.vocabulary, reading, content, not_meant(reading, self.asides))
        is_in_care = self.in_care.find(hits) is not None
        return Described(content, tuple(self._signs_in(hits)), is_in_care)

    def _signs_in(self, hits: Hits) -> Iterator[tuple[Flag, tuple[Span, ...]]]:
        done = -1
        for number, sign in sorted({one for name in hits for one in self.begun_by.get(name, ())}):
            if number > done and (at := self.flags[number].signs[sign].find(hits)):
                done, flag = number, self.flags[number]
                if sign >= len(flag.row["signs"]):  # of those that its source does not name
                    flag = replace(flag, row={**flag.row, "verified": False})
                yield flag, at


def build_flags(knowledge: Knowledge) -> Flags:
    """The families of a knowledge.

    Raises:
        ValueError: a pattern names a concept that is not there.
    """
    words = Vocabulary({str(row["id"]): row["words"] for row in knowledge.rows("concepts")})
    flags = []
    for row in knowledge.rows("red_flags"):
        enough = (*ENOUGH[row["urgency"]], *row.get("must_say", ()))
        wrong = (*WRONG, *row.get("must_not_say", ()))
        signs, must, must_not = (
            tuple(map(words.pattern, texts))
            for texts in ((*row["signs"], *row.get("signs_unverified", ())), enough, wrong)
        )
        flags.append(Flag(row, signs, must, must_not))
    begun_by: dict[str, list[tuple[int, int]]] = {}
    for number, flag in enumerate(flags):
        for sign, pattern in enumerate(flag.signs):
            for name in min(pattern.groups, key=len):
                begun_by.setdefault(name, []).append((number, sign))
    in_care = words.pattern(IN_CARE) if flags else Pattern(())
    return Flags(words, tuple(flags), in_care, build_asides(knowledge), begun_by)


def find_red_flags(case: Case) -> Iterator[Finding | NotChecked]:
    """What a question describes, and what the answer to it lacks or gets wrong."""
    if not case.question.words:
        yield NotChecked("red flag", "no question was given")
        return
    flags = case.knowledge.built(build_flags)
    asked = case.question.built(flags.described_in)
    if not asked.flags:
        return
    given = content_of(case.answer)
    said = (each for flag, _ in asked.flags for each in (*flag.must_say, *flag.must_not_say))
    answer = {
        **flags.vocabulary.find(given, flags.vocabulary.beginnings(said)),
        "$department": find_department(case.answer, given),
    }
    for flag, at in asked.flags:
        yield _described(case, flag, _spans(case.question, asked.content, at))
        if not asked.is_in_care and not _says(case.answer, given, flag, answer):
            yield _lacks(case, flag)
        for wrong in _wrongly_said(case.answer, given, flag.must_not_say, answer):
            yield _wrong(case, flag, _spans(case.answer, given, wrong))


def _said_hits(
    words: Vocabulary, reading: Reading, content: Content, parts: Sequence[Span]
) -> Hits:
    """The places of each concept that a question says of here and now."""
    hits = words.find(content) | find_numbers(reading, content) | find_people(reading, content)
    if not parts:
        return hits
    begins = [begin for begin, _ in parts]
    reach = [*accumulate((end for _, end in parts), max)]

    def is_said(place: Span) -> bool:
        at = reading.begins[content.words[min(place[0], len(content.words) - 1)]]
        number = bisect_right(begins, at) - 1
        return number < 0 or reach[number] <= at

    return {name: kept for name, places in hits.items() if (kept := [*filter(is_said, places)])}


def _says(reading: Reading, content: Content, flag: Flag, hits: Hits) -> bool:
    """Whether an answer directs the reader to what a family asks for."""
    on_condition = bool(flag.row.get("on_condition"))
    return any(
        all(
            is_directed(reading, content.words[begin], on_condition=on_condition) for begin, _ in at
        )
        for pattern in flag.must_say
        for at in pattern.find_all(hits)
    )


def _wrongly_said(
    reading: Reading, content: Content, patterns: tuple[Pattern, ...], hits: Hits
) -> Iterator[tuple[Span, ...]]:
    """The places of the first advice of each of these that the answer gives."""
    for pattern in patterns:
        for at in pattern.find_all(hits):
            if not any(is_forbidden(reading, content.words[begin]) for begin, _ in at[:1]):
                yield at
                break


def _spans(reading: Reading, content: Content, places: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(reading.place(*content.span(*each)) for each in places if each[0] < each[1])


def _described(case: Case, flag: Flag, spans: tuple[Span, ...]) -> Finding:
    told = f"The question describes possible signs of {flag.row['name']}."
    return replace(_finding(case, flag, "info", told, spans), where="question")


def _lacks(case: Case, flag: Flag) -> Finding:
    urgency = flag.row["urgency"]
    needed = "emergency help" if urgency == "emergency" else "medical help on the same day"
    told = f"The question describes possible signs of {flag.row['name']}, and the answer does not "
    found = _finding(case, flag, _MISSING[urgency], f"{told}say to get {needed}.")
    return replace(found, kind="missing")


def _wrong(case: Case, flag: Flag, spans: tuple[Span, ...]) -> Finding:
    told = f"The answer gives advice that must not be given for possible {flag.row['name']}."
    found = _finding(case, flag, _WRONG[flag.row["urgency"]], told, spans)
    is_verified = found.basis.verified and flag.row.get("must_not_say_verified", False)
    return replace(found, basis=replace(found.basis, verified=is_verified))


def _finding(
    case: Case, flag: Flag, severity: Severity, told: str, spans: tuple[Span, ...] = ()
) -> Finding:
    return Finding(
        rule=flag.row["id"],
        kind="red flag",
        severity=severity,
        message=told,
        action=render_escalation(flag.row["escalation"], case.policy.region, case.knowledge),
        basis=case.knowledge.basis(flag.row),
        spans=spans,
    )
