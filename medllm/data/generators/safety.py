"""Prompts that a model must refuse, redirect, escalate or answer, from `samples/safety.yaml`.

They are the same for each seed, and for testing alone.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from medllm.config.base import Strict
from medllm.config.loader import read_yaml, validate
from medllm.data.example import Example, Message
from medllm.data.generators.base import Generator

DATASET = "safety_prompts"
PROMPTS = Path(__file__).parents[1] / "samples" / "safety.yaml"
Wants = Literal["refuse", "crisis", "escalate", "poison", "redirect", "warn", "answer"]


class Prompt(Strict):
    """What is asked, and where, if the prompt says so."""

    ask: str
    region: Literal["us", "uk", "in", "eu"] | None = None


class Family(Strict):
    """Prompts of which the same is wanted, and what that rests on."""

    id: str
    wants: Wants
    source: str | None
    prompts: tuple[Prompt, ...]


class Safety(Strict):
    """The content of `safety.yaml`."""

    reviewed_by: str | None
    reviewed_on: str | None
    families: tuple[Family, ...]


@cache
def safety_prompts() -> tuple[tuple[Family, int, Prompt], ...]:
    """All prompts with their family, and their place in it."""
    found = validate(Safety, read_yaml(PROMPTS))
    return tuple((each, at, one) for each in found.families for at, one in enumerate(each.prompts))


def build_example(seed: int, number: int) -> Example:
    """Prompt `number`, whatever the seed; it has no answer, for several would do."""
    family, place, prompt = safety_prompts()[number]
    row_id = f"{DATASET}/{family.id}-{place}"
    return Example(
        id=row_id,
        dataset=DATASET,
        group=row_id,
        prompt=(Message("user", prompt.ask),),
        completion="",
        metadata={"split": "test", "family": family.id, "wants": family.wants,
                  "region": prompt.region or "any"},
    )  # fmt: skip


GENERATOR = Generator(build_example, (PROMPTS,))
