"""Names of diseases, drugs, anatomy, procedures and findings in a text, with their ids."""

from medllm.clinical.entities.finder import Entity, find_entities

__all__ = ["Entity", "find_entities"]
