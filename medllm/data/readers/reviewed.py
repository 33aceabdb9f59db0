"""What a review needs of files: a patient context of a row, and a hospital's own rules."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm.artifacts.digest import digest_files
from medllm.clinical.families import TABLES
from medllm.clinical.rules.files import read_rules
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.errors import ConfigError, DataError

CONTEXTS = ("patient", "patient_context", "context")
"""Columns that hold what is known of a patient, where none is named."""


def load_knowledge(folder: Path | None) -> Knowledge:
    """The rules that ship, joined by those of a folder, which win where an id is in both.

    Raises:
        ConfigError: there is no such folder or it holds no rules, or one is wrong; file and line.
    """
    if folder is None:
        return shipped_knowledge()
    if not folder.is_dir():
        raise ConfigError(f"no such folder of rules: {folder}", "name a folder of YAML or CSV")
    if not [*folder.glob("*.yaml")]:
        raise ConfigError(
            f"{folder}: no rules in it", "put YAML there; docs/clinical.md has its form"
        )
    return read_rules(folder, TABLES, shipped_knowledge())


def digest_rules(folder: Path | None) -> str:
    """The digest of a folder's rules; empty without one."""
    if folder is None or not folder.is_dir():
        return ""
    kinds = {".yaml", ".yml", ".csv"}
    return digest_files(folder, [each for each in folder.iterdir() if each.suffix.lower() in kinds])


def read_context(row: Mapping[str, Any], column: str | None, place: str) -> dict[str, Any] | None:
    """What is known of the patient of a row: a mapping, or a JSON object as text.

    Raises:
        DataError: it is something else, such as a passage that a question is about.
    """
    names = [column] if column else [each for each in CONTEXTS if row.get(each) not in (None, "")]
    value = row.get(names[0]) if names else None
    if value in (None, "", {}):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, Mapping):
        return dict(value)
    raise DataError(
        f"{place}: the column '{names[0]}' is no patient context",
        'write a JSON object such as {"age": 67, "allergies": ["penicillin"]}, or name another '
        "column as context",
    )
