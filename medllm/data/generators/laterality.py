"""Short chest notes made up from the reports' vocabulary, and the side on which they are abnormal.

Row `i` depends on the seed and on `i` only. Each note stands alone: none shares a group with
another. Findings are stated on one side or on both, others are denied on either side, so that who
counts the words "left" and "right" cannot answer; no note describes a person.
"""

from functools import cache
from random import Random

from medllm.data.example import Example, Message
from medllm.data.generators.base import Generator
from medllm.data.generators.grammar import draw, fix_grammar, say
from medllm.data.generators.radiology import NEGATIONS, VOCABULARY, Finding, Study, vocabulary

DATASET = "synthetic_laterality"
STUDY = "Chest X-ray"
QUESTION = "Which side is abnormal?"
STATED = {"left": ("left",), "right": ("right",), "both": ("left", "right"), "neither": ()}
"""The sides of the findings that a note states, by its answer; all answers are as frequent."""
SIDES = ("left", "right")
NEUTRAL = ("Heart", "Mediastinum", "Bones")
"""Regions of which a normal sentence says nothing of a side."""


def build_example(seed: int, number: int) -> Example:
    """Row `number` of a seed: a note, and the question which side is abnormal."""
    rng = Random(f"{DATASET}-{seed}-{number}")
    answer = rng.choice(list(STATED))
    row_id = f"{DATASET}/{seed}-{number}"
    return Example(
        id=row_id,
        dataset=DATASET,
        group=row_id,
        prompt=(Message("user", f"Findings: {build_note(rng, answer)}\nQuestion: {QUESTION}"),),
        completion=answer,
        choices=tuple(STATED),
        target=answer,
    )


def build_note(rng: Random, answer: str) -> str:
    """Sentences in any order: findings stated for that answer, others denied, and a normal one."""
    stated = STATED[answer]
    denied = [rng.choice(SIDES) for _ in range(rng.choice((1, 2)) + (not stated))]
    findings = rng.sample(_sided(), len(stated) + len(denied))
    sentences = [_state(rng, *one) for one in zip(findings, stated, strict=False)]
    sentences += [_deny(rng, *one) for one in zip(findings[len(stated) :], denied, strict=True)]
    region = rng.choice([each for each in _study().regions if each.title in NEUTRAL])
    sentences.append(say(rng, region.normal))
    return " ".join(rng.sample(sentences, len(sentences)))


def _state(rng: Random, finding: Finding, side: str) -> str:
    slots = {name: draw(rng, template) for name, template in finding.vars.items()}
    if side in finding.places:
        slots["place"] = rng.choice(finding.places[side])
    return say(rng, finding.present, {**slots, "side": side})


def _deny(rng: Random, finding: Finding, side: str) -> str:
    verb = "are" if finding.plural else "is"
    negation = rng.choice(NEGATIONS)
    return fix_grammar(negation.format(f"{side} {finding.name}", first=verb, last=verb))


@cache
def _sided() -> list[Finding]:
    return [each for region in _study().regions for each in region.findings if each.sides]


@cache
def _study() -> Study:
    return next(study for study in vocabulary().studies if study.title == STUDY)


GENERATOR = Generator(build_example, (VOCABULARY,))
