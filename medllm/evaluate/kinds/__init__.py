"""Kinds of task: how its items are scored. A kind is a module here, and its entry below."""

from collections.abc import Mapping

from medllm.config.loader import unknown_name
from medllm.evaluate.kinds.answers import Answers
from medllm.evaluate.kinds.base import Asking, Column, Kind
from medllm.evaluate.kinds.choices import Choices
from medllm.evaluate.kinds.clinical.alert import Alert
from medllm.evaluate.kinds.clinical.error_detection import (
    ErrorDetection,
    ErrorDetectionByLikelihood,
)
from medllm.evaluate.kinds.clinical.hallucination import Hallucination
from medllm.evaluate.kinds.clinical.safety import Safety
from medllm.evaluate.kinds.pairs import Pairs
from medllm.evaluate.kinds.studies.memorisation import Memorisation
from medllm.evaluate.kinds.studies.ner import Ner
from medllm.evaluate.kinds.studies.rubrics import Rubrics
from medllm.evaluate.kinds.studies.speed import Speed
from medllm.evaluate.kinds.texts import Texts
from medllm.evaluate.kinds.written.free_text import FreeText
from medllm.evaluate.kinds.written.summaries import Summaries

KINDS: Mapping[str, Kind] = {
    "choices": Choices(), "answers": Answers(), "texts": Texts(), "pairs": Pairs(),
    "hallucination": Hallucination(), "alert": Alert(), "safety": Safety(),
    "error_detection": ErrorDetection(), "error_detection_text": ErrorDetection(with_images=False),
    "error_detection_likelihood": ErrorDetectionByLikelihood(),
    "memorisation": Memorisation(), "rubrics": Rubrics(), "ner": Ner(), "speed": Speed(),
    "free_text": FreeText(), "summaries": Summaries(),
}  # fmt: skip
"""The kinds by the names that the YAML of a task gives them."""


def find_kind(name: str) -> Kind:
    """The kind of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    if name not in KINDS:
        raise unknown_name("kind of task", name, KINDS)
    return KINDS[name]


__all__ = ["KINDS", "Asking", "Column", "Kind", "find_kind"]
