"""What a review needs of files: a patient context of a row, and a hospital's own rules."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.digest import digest_file, digest_files
from medllm.clinical.families import TABLES
from medllm.clinical.patient import read_patient
from medllm.clinical.rules.files import read_rules
from medllm.clinical.rules.knowledge import KNOWLEDGE, Knowledge, shipped_knowledge
from medllm.data.readers.own_interactions import join_interactions
from medllm.errors import ConfigError, DataError, did_you_mean

COLUMNS = ("patient", "patient_context", "context")
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
    if not _rule_files(folder):
        raise ConfigError(f"{folder}: no rules in it", "put YAML or CSV there; see clinical.md")
    knowledge = read_rules(folder, TABLES, shipped_knowledge())
    tables = [each for each in _rule_files(folder) if each.suffix.lower() == ".csv"]
    return join_interactions(knowledge, tables) if tables else knowledge


def digest_knowledge(folder: Path | None) -> dict[str, str]:
    """The digests of the rules that ship, and of a folder of others."""
    own = {"own": digest_files(folder, _rule_files(folder))} if folder and folder.is_dir() else {}
    return {"shipped": digest_file(KNOWLEDGE), **own}


def _rule_files(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if each.suffix.lower() in {".yaml", ".csv"}]


class ContextReader:
    """Reads what is known of the patient of a row from a column, one of `COLUMNS` by default.

    A column of these names that holds plain text is a passage that a question is about: it is left
    as it is, and said once.
    """

    def __init__(self, column: str | None) -> None:
        """The reader of one file; of a name, case, spaces and dashes make no difference."""
        self._column = _plain(column) if column else None
        self._names_of_first: list[str] = []
        self._is_there = column is None
        self.passages = 0

    def check_column(self, source: Path) -> None:
        """Raise DataError if no row had the column that was named, once all rows are read."""
        if not self._is_there:
            near = did_you_mean(self._column or "", self._names_of_first)
            fix = f"{near}name the column with what is known of the patient"
            raise DataError(f"{source}: no row has the column '{self._column}'", fix)

    def split(
        self, row: Mapping[str, Any], place: str
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The row without the patient context, and that context; none where there is none.

        Raises:
            DataError: the column that was named holds something else, or the context is wrong.
        """
        for name in self._names(row):
            value = _mapping(row[name])
            if value is not None:
                _check(value, place)
                return {key: row[key] for key in row if key != name}, value
            if self._column:
                raise DataError(
                    f"{place}: the column '{name}' is no patient context",
                    'write a JSON object such as {"age": 67, "allergies": ["penicillin"]}',
                )
            self._count_passage(name)
        return dict(row), None

    def _names(self, row: Mapping[str, Any]) -> list[str]:
        wanted = (self._column,) if self._column else COLUMNS
        named = {_plain(str(name)): name for name in row}
        self._names_of_first = self._names_of_first or list(named)
        self._is_there = self._is_there or self._column in named
        return [named[name] for name in wanted if name in named and row[named[name]]]

    def _count_passage(self, name: str) -> None:
        self.passages += 1
        if self.passages == 1:
            told = f"the column '{name}' holds text, no patient context (a JSON object)"
            console.notice(f"review: {told}; nothing is known of patients from it")


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _mapping(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return dict(value) if isinstance(value, Mapping) else None


def _check(context: Mapping[str, Any], place: str) -> None:
    try:
        read_patient(context)
    except DataError as problem:
        raise DataError(f"{place}: {problem.message}", problem.fix) from None
