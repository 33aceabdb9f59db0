"""Imaging reports made up from a vocabulary, whose impression agrees with their findings.

Row `i` depends on the seed and on `i` only, so that neither order nor count matters. The vocabulary
and its small grammar are in `samples/radiology.yaml`; no report describes a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

from medllm.config.base import Strict
from medllm.config.loader import read_yaml, validate
from medllm.data.example import Example, Message
from medllm.data.generators.base import Generator
from medllm.data.generators.grammar import draw, fill, fix_grammar, say

DATASET = "synthetic_radiology"
VOCABULARY = Path(__file__).parents[1] / "samples" / "radiology.yaml"

SHARE_OF_YES = 0.45
SHARE_OF_SWAPPED = 0.6  # of the "no" questions that could ask for the other side of what was found
HOW_MANY_FINDINGS = {0: 0.2, 1: 0.35, 2: 0.3, 3: 0.15}
BILATERAL = "bilateral"

NEGATIONS = (
    "No {}.",
    "There {first} no {}.",
    "There is no evidence of {}.",
    "No {} {last} seen.",
    "No {} {last} identified.",
    "No sign of {}.",
    "Negative for {}.",
)
QUESTIONS = {  # by whether the finding is in the plural
    False: ("Is there {}?", "Is {} present?"),
    True: ("Are there {}?", "Are {} present?"),
}
QUESTIONS_FOR_BOTH = ("Does the report describe {}?", "Do the findings show {}?")


class Both(Strict):
    """How a finding reads when it is on both sides."""

    present: tuple[str, ...]
    short: str


class Finding(Strict):
    """One abnormality and the phrases for it."""

    name: str
    present: tuple[str, ...]
    short: str
    impression: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    places: dict[str, tuple[str, ...]] = {}
    vars: dict[str, str] = {}
    both: Both | None = None
    mass: bool = False
    plural: bool = False
    urgent: bool = False
    covers: tuple[str, ...] = ()


class Region(Strict):
    """One part of the body in a report."""

    title: str
    normal: tuple[str, ...]
    rest: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Study(Strict):
    """One kind of examination."""

    title: str
    modality: str
    indications: tuple[str, ...]
    technique: tuple[str, ...]
    normal_impression: tuple[str, ...]
    regions: tuple[Region, ...]


class Vocabulary(Strict):
    """The content of `radiology.yaml`."""

    studies: tuple[Study, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """What a question asks about, or a sentence denies: a finding, on a side or anywhere ("")."""

    finding: Finding
    side: str

    @property
    def phrase(self) -> str:
        """For example "left pleural effusion"."""
        return f"{self.side} {self.finding.name}".strip()


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding that a report has, with the values that all its sentences share."""

    finding: Finding
    side: str
    slots: Mapping[str, str]

    @property
    def _forms(self) -> Finding | Both:
        return self.finding.both if self.finding.both and self.side == BILATERAL else self.finding

    @property
    def present(self) -> tuple[str, ...]:
        """The phrasings for the findings section."""
        return self._forms.present

    @property
    def short(self) -> str:
        """The noun phrase for the impression and for answers, without an article."""
        return fill(self._forms.short, self.slots)

    @property
    def is_plural(self) -> bool:
        """Whether the noun phrase takes "are"."""
        return self.finding.plural or (self.side == BILATERAL and not self.finding.mass)

    @property
    def other_side(self) -> str | None:
        """The side on which the finding is not, if it has sides and is on one only."""
        if self.side not in self.finding.sides:
            return None
        return next(side for side in self.finding.sides if side != self.side)


@dataclass(slots=True)
class _Section:
    """One region's sentences, and what they deny."""

    title: str
    sentences: list[str] = field(default_factory=list)
    denied: list[Topic] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """An imaging report, with what its findings state and deny."""

    study: Study
    indication: str
    technique: str
    findings: str
    impression: str
    seen: tuple[Seen, ...]
    denied: tuple[Topic, ...]

    @property
    def text(self) -> str:
        """The whole report as plain text, one section a line."""
        return (
            f"Examination: {self.study.title}.\nIndication: {self.indication}\n"
            f"Technique: {self.technique}\nFindings: {self.findings}\nImpression: {self.impression}"
        )


def build_example(seed: int, number: int) -> Example:
    """Row `number` of a seed: even rows ask for the impression, odd rows ask a yes/no question."""
    rng = Random(f"{seed}-{number}")
    if number % 2 == 0:
        report = build_report(rng)
        prompt = f"Findings: {report.findings}\nImpression:"
        return _example(f"{seed}-{number}", report, "impression", prompt, report.impression)
    is_yes = rng.random() < SHARE_OF_YES
    report = build_report(rng, at_least=int(is_yes))
    while not report.denied:  # once in some thousand rows; a "no" must be read off the text
        report = build_report(rng, at_least=int(is_yes))
    question, completion = _ask_present(rng, report) if is_yes else _ask_absent(rng, report)
    prompt = f"Findings: {report.findings}\nQuestion: {question}\nAnswer:"
    return _example(f"{seed}-{number}", report, "question", prompt, completion)


def _example(name: str, report: Report, form: str, prompt: str, completion: str) -> Example:
    row_id = f"{DATASET}/{name}"
    is_question = form == "question"
    return Example(
        id=row_id,
        dataset=DATASET,
        group=row_id,
        prompt=(Message("user", prompt),),
        completion=completion,
        choices=("yes", "no") if is_question else (),
        target=completion.partition(".")[0] if is_question else None,
        metadata={"modality": report.study.modality, "form": form, "abnormal": bool(report.seen)},
    )


def _ask_present(rng: Random, report: Report) -> tuple[str, str]:
    seen = rng.choice(report.seen)
    side = rng.choice(seen.finding.sides) if seen.side == BILATERAL else seen.side
    verb = "are" if seen.is_plural else "is"
    noun = seen.short if seen.is_plural or seen.finding.mass else f"a(n) {seen.short}"
    return _question(rng, Topic(seen.finding, side)), fix_grammar(f"yes. There {verb} {noun}.")


def _ask_absent(rng: Random, report: Report) -> tuple[str, str]:
    found = [seen.finding for seen in report.seen]
    swapped = [topic for topic in report.denied if topic.finding in found]
    use_swapped = swapped and rng.random() < SHARE_OF_SWAPPED
    topic = rng.choice(swapped if use_swapped else report.denied)
    if not topic.side and topic.finding.sides:
        topic = Topic(topic.finding, rng.choice(topic.finding.sides))
    verb = "are" if topic.finding.plural else "is"
    return _question(rng, topic), f"no. There {verb} no {topic.phrase}."


def _question(rng: Random, topic: Topic) -> str:
    finding = topic.finding
    noun = topic.phrase if finding.mass or finding.plural else f"a(n) {topic.phrase}"
    return fix_grammar(rng.choice(QUESTIONS[finding.plural] + QUESTIONS_FOR_BOTH).format(noun))


def build_report(rng: Random, at_least: int = 0) -> Report:
    """A report drawn with `rng`, with `at_least` so many findings."""
    study = rng.choice(vocabulary().studies)
    weights = {n: weight for n, weight in HOW_MANY_FINDINGS.items() if n >= at_least}
    how_many = rng.choices(list(weights), list(weights.values()))[0]
    seen = _draw_findings(rng, study, how_many)
    sections = _write_sections(rng, study, seen)
    return Report(
        study=study,
        indication=say(rng, study.indications),
        technique=say(rng, study.technique),
        findings=_join_sections(rng, sections),
        impression=write_impression(rng, study, list(seen.values())),
        seen=tuple(seen.values()),
        denied=tuple(topic for section in sections for topic in section.denied),
    )


@cache
def vocabulary() -> Vocabulary:
    """What eight kinds of reports say."""
    return validate(Vocabulary, read_yaml(VOCABULARY))


def _draw_findings(rng: Random, study: Study, how_many: int) -> dict[str, Seen]:
    """Up to `how_many` findings by region, at most one a region, none that another rules out."""
    drawn: dict[str, Seen] = {}
    covered: set[str] = set()
    candidates = [region for region in study.regions if region.findings]
    for region in rng.sample(candidates, len(candidates)):
        if len(drawn) == how_many:
            break
        finding = rng.choice(region.findings)
        if region.title not in covered and not drawn.keys() & set(finding.covers):
            drawn[region.title] = _see(rng, finding)
            covered.update(finding.covers)
    in_order = [region.title for region in study.regions if region.title in drawn]
    return {title: drawn[title] for title in in_order}


def _see(rng: Random, finding: Finding) -> Seen:
    side = rng.choice(finding.sides) if finding.sides else ""
    if finding.both and rng.random() < 1 / 4:
        side = BILATERAL
    slots = {name: draw(rng, template) for name, template in finding.vars.items()}
    if side in finding.places:
        slots["place"] = rng.choice(finding.places[side])
    return Seen(finding, side, {**slots, "side": side})


def _write_sections(rng: Random, study: Study, seen: Mapping[str, Seen]) -> list[_Section]:
    """The regions' texts: a dull region may be left out, a covered one is."""
    covered = {title for one in seen.values() for title in one.finding.covers}
    is_brief = rng.random() < 1 / 4
    sections = []
    for region in study.regions:
        if region.title in covered:
            continue
        if found := seen.get(region.title):
            sections.append(_write_abnormal(rng, region, found))
        elif region.findings or rng.random() < 1 / 2:
            sections.append(_write_normal(rng, region, is_brief))
    return sections


def _write_abnormal(rng: Random, region: Region, seen: Seen) -> _Section:
    section = _Section(region.title, [say(rng, seen.present, seen.slots)])
    if seen.other_side and rng.random() < 3 / 4:
        _deny(rng, section, [Topic(seen.finding, seen.other_side)])
    others = [finding for finding in region.findings if finding is not seen.finding]
    if others and rng.random() < 3 / 4:
        _deny(rng, section, _some(rng, others))
    if region.rest and rng.random() < 1 / 2:
        section.sentences.append(say(rng, region.rest))
    return section


def _write_normal(rng: Random, region: Region, is_brief: bool) -> _Section:
    section = _Section(region.title)
    if not is_brief or not region.findings:
        section.sentences.append(say(rng, region.normal))
    if region.findings and (is_brief or rng.random() < 3 / 4):
        _deny(rng, section, _some(rng, region.findings))
    return section


def _some(rng: Random, findings: Sequence[Finding]) -> list[Topic]:
    """Most of the findings, at least one, as topics without a side, in the given order."""
    kept = [finding for finding in findings if rng.random() < 3 / 4] or [findings[0]]
    return [Topic(finding, "") for finding in kept]


def _deny(rng: Random, section: _Section, topics: Sequence[Topic]) -> None:
    *first, last = [topic.phrase for topic in topics]
    listed = f"{', '.join(first)} or {last}" if first else last
    verbs = ["are" if topic.finding.plural else "is" for topic in topics]
    section.sentences.append(rng.choice(NEGATIONS).format(listed, first=verbs[0], last=verbs[-1]))
    section.denied.extend(topics)


def _join_sections(rng: Random, sections: Sequence[_Section]) -> str:
    """Prose, or each region after its name."""
    with_titles = rng.random() < 1 / 3
    texts = [" ".join(section.sentences) for section in sections]
    if with_titles:
        texts = [f"{s.title}: {text}" for s, text in zip(sections, texts, strict=True)]
    return " ".join(texts)


def write_impression(rng: Random, study: Study, seen: Sequence[Seen]) -> str:
    """The findings again, urgent ones first; a list or prose where there are several."""
    if not seen:
        return say(rng, study.normal_impression)
    ordered = sorted(seen, key=lambda one: not one.finding.urgent)
    sentences = [_conclude(rng, one) for one in ordered]
    if len(sentences) > 1 and rng.random() < 1 / 2:
        sentences = [f"{number}. {text}" for number, text in enumerate(sentences, 1)]
    return " ".join(sentences)


def _conclude(rng: Random, seen: Seen) -> str:
    if seen.side != BILATERAL and seen.finding.impression:
        return say(rng, seen.finding.impression, seen.slots)
    return fix_grammar(f"{seen.short}.")


GENERATOR = Generator(build_example, (VOCABULARY,))
