"""Entities by a spaCy model of your own, such as a scispaCy model in a folder."""

import importlib
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from medllm.clinical.entities.finder import Entity
from medllm.clinical.entities.words import TYPES, Type
from medllm.clinical.text.reading import Reading
from medllm.errors import ArtifactError, SetupError

LABELS: dict[str, Type] = {
    "DISEASE": "disease", "CHEMICAL": "drug", "SIMPLE_CHEMICAL": "drug", "DRUG": "drug",
    "MEDICATION": "drug", "PROBLEM": "disease", "TREATMENT": "procedure", "TEST": "procedure",
    "ORGAN": "anatomy", "TISSUE": "anatomy", "ANATOMICAL_SYSTEM": "anatomy", "CANCER": "disease",
    "MULTI_TISSUE_STRUCTURE": "anatomy", "SYMPTOM": "finding",
}  # fmt: skip
"""Labels of scispaCy's models (BC5CDR, BioNLP13CG) and of i2b2's task, as our types."""


def load_spacy(folder: Path) -> Callable[[Reading], tuple[Entity, ...]]:
    """A finder of entities like `find_entities`, by the spaCy model in a folder; it gives no ids.

    Labels that are none of ours, nor of `LABELS`, are left out.

    Raises:
        SetupError: spaCy is not installed.
        ArtifactError: the folder holds no model of spaCy.
    """
    try:
        spacy = importlib.import_module("spacy")
    except ImportError as error:
        raise SetupError(
            "entities by a model need spaCy", "pip install spacy, or leave the model out"
        ) from error
    if not (folder / "config.cfg").is_file():
        raise ArtifactError(
            f"{folder} holds no spaCy model: no config.cfg",
            "name the folder of a model that `nlp.to_disk` wrote",
        )
    model = spacy.load(folder)

    def find(reading: Reading) -> tuple[Entity, ...]:
        begins = [reading.place(word, word + 1)[0] for word in range(len(reading.words))]
        found = []
        for each in model(reading.text).ents:
            type_ = LABELS.get(each.label_.upper()) or each.label_.lower()
            first, last = (bisect_left(begins, end) for end in (each.start_char, each.end_char))
            if type_ in TYPES and first < last:
                found.append(Entity(type_, first, last))
        return tuple(found)

    return find
