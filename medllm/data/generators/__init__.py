"""Datasets that are written on the spot, of a seed."""

from medllm.data.generators import laterality, radiology
from medllm.data.generators.base import Generator

GENERATORS: dict[str, Generator] = {
    radiology.DATASET: radiology.GENERATOR,
    laterality.DATASET: laterality.GENERATOR,
}
"""By the shape that a dataset's YAML names."""

__all__ = ["GENERATORS", "Generator"]
