"""Datasets that are written on the spot, of a seed."""

from medllm.data.generators import errors, laterality, look_alikes, radiology, safety, vitals
from medllm.data.generators.base import Generator

GENERATORS: dict[str, Generator] = {
    radiology.DATASET: radiology.GENERATOR,
    laterality.DATASET: laterality.GENERATOR,
    vitals.DATASET: vitals.GENERATOR,
    look_alikes.DATASET: look_alikes.GENERATOR,
    safety.DATASET: safety.GENERATOR,
    errors.DATASET: errors.GENERATOR,
}
"""By the shape that a dataset's YAML names."""

__all__ = ["GENERATORS", "Generator"]
