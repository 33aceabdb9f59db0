"""A hospital's own table of interactions, a CSV with two drugs a row, as rules."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from medllm.clinical.drugs.names import Name, build_drug_names
from medllm.clinical.drugs.tables import read_rxcuis
from medllm.clinical.finding import Severity
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row
from medllm.clinical.text.phrases import words_in
from medllm.data.readers.rows import read_rows
from medllm.errors import ConfigError, did_you_mean

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "a": ("drug_1", "drug1", "drug_a", "druga", "a", "first", "object", "name_1", "name1",
          "rxcui_1",
          "rxcui1", "rxcui_a", "drug", "medication_1", "medication1", "drug_1_name", "medicine_1"),
    "b": ("drug_2", "drug2", "drug_b", "drugb", "b", "second", "precipitant", "name_2", "name2",
          "rxcui_2", "rxcui2", "rxcui_b", "interacts_with", "medication_2", "medication2",
          "drug_2_name", "medicine_2"),
    "severity": ("severity", "level", "grade", "risk", "severity_level"),
    "mechanism": ("text", "message", "effect", "mechanism", "description", "warning"),
    "action": ("action", "management", "advice", "recommendation"),
    "source": ("source", "reference", "origin"),
    "id": ("id", "rule", "rule_id"),
}  # fmt: skip
"""What a column may be called, in lower case and with `_` for other signs."""
NEEDED = ("a", "b", "severity")
SEVERITIES = {
    **{each: each for each in ("none", *get_args(Severity))},
    "x": "contraindicated", "avoid": "contraindicated", "high": "major", "severe": "major",
    "serious": "major", "medium": "moderate", "significant": "moderate", "low": "minor",
    "mild": "minor", "information": "info", "critical": "contraindicated",
}  # fmt: skip
"""What a severity may be called."""
_KNOWN = ("none", *get_args(Severity))


def join_interactions(knowledge: Knowledge, tables: Sequence[Path]) -> Knowledge:
    """The rules, joined by those of CSV files; they win for a pair of which ours has a row, too.

    Raises:
        ConfigError: a column is missing, a drug unknown or a severity; all with file and row.
    """
    ours = _ids_by_pair(knowledge)
    rows: dict[str, Row] = {}
    places: dict[str, str] = {}
    sources: dict[str, Row] = {}
    wrong: list[str] = []
    for path in tables:
        for line, row in enumerate(read_rows(path), 2):
            try:
                found, source = _read(knowledge, path, row)
            except ValueError as problem:
                wrong.append(f"{path}:{line}: {problem}")
                continue
            pair = frozenset((*found["a"], *found["b"]))
            id_ = found["id"] or ours.get(pair) or f"own.{'.'.join(sorted(pair))}"
            if id_ in rows and _said(rows[id_]) != _said({**found, "id": id_}):
                wrong.append(f"{path}:{line}: says another thing than {places[id_]} of one pair")
            places.setdefault(id_, f"{path}:{line}")
            rows[id_] = {**found, "id": id_}
            sources[str(found["source"])] = source
    if wrong:
        raise ConfigError("\n".join(wrong), "correct these rows; drugs stand by name or by RxCUI")
    return knowledge.joined({"interactions": rows}, sources)


def _said(row: Row) -> dict[str, Any]:
    """What a row says of its pair, in whatever order that stands."""
    return {**row, "a": None, "b": None, "pair": frozenset((*row["a"], *row["b"]))}


def _ids_by_pair(knowledge: Knowledge) -> dict[frozenset[str], str]:
    """The ids of the rows that speak of two drugs or classes alone."""
    ids: dict[frozenset[str], str] = {}
    for row in knowledge.rows("interactions"):
        if len(row["a"]) == len(row["b"]) == 1:
            ids[frozenset([*row["a"], *row["b"]])] = str(row["id"])
    return ids


def _read(knowledge: Knowledge, path: Path, row: Mapping[str, Any]) -> tuple[dict[str, Any], Row]:
    """A row as a rule, and its source; raises ValueError with what is wrong in it."""
    cells = _cells(row)
    if lacking := [column for column in NEEDED if column not in cells]:
        known = {column: COLUMNS[column][0] for column in lacking}
        raise ValueError(f"no value for {', '.join(known.values())}")
    severity = cells["severity"].lower()
    if severity not in SEVERITIES:
        hint = did_you_mean(severity, SEVERITIES)
        raise ValueError(f"no severity '{severity:.40}'; {hint}known are {', '.join(_KNOWN)}")
    title = cells.get("source", path.name)
    rule: dict[str, Any] = {
        "id": cells.get("id", ""),
        "a": [_drug(knowledge, cells["a"])],
        "b": [_drug(knowledge, cells["b"])],
        "severity": SEVERITIES[severity],
        **{key: cells[key] for key in ("mechanism", "action") if key in cells},
        "source": f"own: {title}",
        "verified": True,
    }
    return rule, {"title": title, "kind": "guideline"}


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The values by what their columns mean."""
    named = {re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_"): name for name in row}
    found: dict[str, str] = {}
    for meaning, names in COLUMNS.items():
        for name in names:
            value = str(row[named[name]] or "").strip() if name in named else ""
            if value and meaning not in found:
                found[meaning] = value
    return found


def _drug(knowledge: Knowledge, value: str) -> str:
    """The ingredient or class of a name or an RxCUI; raises ValueError where there is none."""
    if value.isdigit():
        if drug := knowledge.built(read_rxcuis).get(value):
            return drug
        raise ValueError(f"no drug of RxCUI {value}")
    names = knowledge.built(build_drug_names)
    found: list[Name] = [name for _, _, name in names.phrases.find(words_in(value))]
    if len(found) != 1:
        hint = did_you_mean(value.lower(), names.in_rules)
        raise ValueError(f"no drug '{value:.60}'; {hint}".rstrip("; "))
    if len(found[0].drugs) > 1:
        raise ValueError(f"'{value:.60}' holds {' and '.join(found[0].drugs)}: name one of them")
    return found[0].drug_class or found[0].drugs[0]
