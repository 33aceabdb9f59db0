"""Build `medllm/clinical/knowledge/knowledge.json` of the YAML beside it, which people write.

    python scripts/build_knowledge.py

YAML is slow to read: what ships is one JSON, and a test compares the two.
"""

import json
from pathlib import Path
from typing import Any

from medllm.clinical.measurements.quantities import KNOWLEDGE, check_quantities
from medllm.config.loader import read_yaml


def main() -> None:
    """Write the file."""
    KNOWLEDGE.write_text(rendered(), encoding="utf-8")


def rendered() -> str:
    """The JSON as text, a row a line; raises ConfigError for rows that are wrong."""
    parts = {"quantities": read_quantities(KNOWLEDGE.parent / "quantities.yaml")}
    return "{\n" + ",\n".join(_table(name, rows) for name, rows in parts.items()) + "\n}\n"


def _table(name: str, rows: list[dict[str, Any]]) -> str:
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'"{name}": [\n{lines}\n]'


def read_quantities(path: Path) -> list[dict[str, Any]]:
    """The rows of the table of quantities, checked."""
    document = read_yaml(path)
    rows: list[dict[str, Any]] = document.data["quantities"]
    places = (document.origin(("quantities", number)).label for number in range(len(rows)))
    check_quantities(zip(places, rows, strict=True))
    return rows


if __name__ == "__main__":
    main()
