"""Generated imaging reports of which half have an error in the impression, and what it is.

Row `i` depends on the seed and on `i` only; odd rows have an error. What is wrong contradicts the
findings of the same report, so that the text alone decides; no report describes a person.
"""

import re
from collections.abc import Callable, Mapping
from random import Random

from medllm.data.example import Example, Message
from medllm.data.generators.base import Generator
from medllm.data.generators.grammar import fix_grammar
from medllm.data.generators.radiology import (
    VOCABULARY,
    Report,
    Seen,
    build_report,
    write_impression,
)

DATASET = "synthetic_errors"
NONE = "none"
SEVERITIES = {"laterality": "critical", "negation": "critical", "omission": "high",
              "invention": "high"}  # fmt: skip
"""How severe an error of a kind is called; a convention of this project."""
Changed = tuple[str, str]
"""A wrong impression, and what is wrong in it."""


def build_example(seed: int, number: int) -> Example:
    """Row `number` of a seed: a report, and whether its impression is true to its findings."""
    rng = Random(f"{DATASET}-{seed}-{number}")
    has_error = number % 2 == 1
    report = build_report(rng, at_least=int(has_error))
    kind, impression, told = NONE, report.impression, "the impression agrees with the findings."
    if has_error:
        ways = {name: change for name, way in WAYS.items() if (change := way(rng, report))}
        kind = rng.choice(sorted(ways))
        impression, told = ways[kind]
    row_id = f"{DATASET}/{seed}-{number}"
    return Example(
        id=row_id,
        dataset=DATASET,
        group=row_id,
        prompt=(Message("user", f"Findings: {report.findings}\nImpression: {impression}"),),
        completion=f"{'ERROR' if has_error else 'CORRECT'} - {told}",
        metadata={"modality": report.study.modality, "error_type": kind,
                  "severity": SEVERITIES.get(kind, NONE)},
    )  # fmt: skip


def _other_side(rng: Random, report: Report) -> Changed | None:
    """The impression with one finding on the other side."""
    for seen in report.seen:
        if seen.other_side and re.search(rf"\b{seen.side}\b", report.impression, re.IGNORECASE):
            pattern = re.compile(rf"(?i)\b{seen.side}\b")
            text = pattern.sub(seen.other_side, report.impression, count=1)
            text = text[:1].upper() + text[1:]
            return (
                text,
                f"the impression says {seen.other_side} where the findings say {seen.side}.",
            )
    return None


def _denied(rng: Random, report: Report) -> Changed:
    """The impression that denies a finding."""
    seen = rng.choice(report.seen)
    rest = _without(rng, report, seen)
    name = f"{seen.side if seen.other_side else ''} {seen.finding.name}".strip()
    return (
        f"{rest}No {name}.".strip(),
        f"the findings describe {name}, which the impression denies.",
    )


def _left_out(rng: Random, report: Report) -> Changed:
    """The impression without a finding, or as if nothing was found."""
    seen = rng.choice(report.seen)
    others = [each for each in report.seen if each is not seen]
    text = write_impression(rng, report.study, others)
    return text, f"the impression leaves out {seen.finding.name}."


def _made_up(rng: Random, report: Report) -> Changed | None:
    """The impression with a finding that the findings deny."""
    names = [each.finding.name for each in report.seen]
    topics = [topic for topic in report.denied if topic.finding.name not in names]
    if not topics:
        return None
    topic = rng.choice(topics)
    said = fix_grammar(f"{topic.phrase}.")
    rest = f"{report.impression} " if report.seen else ""
    return f"{rest}{said}", f"the findings deny {topic.phrase}, which the impression states."


def _without(rng: Random, report: Report, seen: Seen) -> str:
    others = [each for each in report.seen if each is not seen]
    return f"{write_impression(rng, report.study, others)} " if others else ""


WAYS: Mapping[str, Callable[[Random, Report], Changed | None]] = {
    "laterality": _other_side, "negation": _denied, "omission": _left_out, "invention": _made_up,
}  # fmt: skip

GENERATOR = Generator(build_example, (VOCABULARY,))
