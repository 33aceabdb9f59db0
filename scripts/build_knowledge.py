"""Build `medllm/clinical/knowledge/knowledge.json` of the YAML beside it, which people write.

    python scripts/build_knowledge.py

YAML is slow to read: what ships is one JSON, and a test compares the two. `quantities.yaml` has a
form of its own; every other file with `sources:` holds tables of rules.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm.clinical.families import TABLES
from medllm.clinical.measurements.quantities import check_quantities
from medllm.clinical.rules.files import read_rules
from medllm.clinical.rules.knowledge import KNOWLEDGE, Knowledge
from medllm.config.loader import read_yaml

FOLDER = KNOWLEDGE.parent


def main() -> None:
    """Write the file."""
    KNOWLEDGE.write_text(rendered(), encoding="utf-8")


def rendered() -> str:
    """The JSON as text, a row a line; raises ConfigError for rows that are wrong."""
    parts = [_list("quantities", read_quantities(FOLDER / "quantities.yaml"))]
    rules = read_rules(FOLDER, TABLES, Knowledge({}, {}))
    parts += [_list(name, [*rows.values()]) for name, rows in rules.tables.items()]
    parts.append(_mapping("sources", rules.sources))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _list(name: str, rows: list[Mapping[str, Any]]) -> str:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'"{name}": [\n{lines}\n]'


def _mapping(name: str, rows: Mapping[str, Any]) -> str:
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(row, ensure_ascii=False)}" for key, row in rows.items()
    )
    return f'"{name}": {{\n{lines}\n}}'


def read_quantities(path: Path) -> list[Mapping[str, Any]]:
    """The rows of the table of quantities, checked."""
    document = read_yaml(path)
    rows: list[Mapping[str, Any]] = document.data["quantities"]
    places = (document.origin(("quantities", number)).label for number in range(len(rows)))
    check_quantities(zip(places, rows, strict=True))
    return rows


if __name__ == "__main__":
    main()
