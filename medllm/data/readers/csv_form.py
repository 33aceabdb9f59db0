"""Examples as CSV: what a spreadsheet shows, runs none of, and medllm reads back."""

import json
import re
from collections.abc import Mapping
from typing import Any

from medllm.data.example import Example, as_json, prompt_turns

LISTS = ("choices", "images", "metadata")
CSV_COLUMNS = (
    "id",
    "dataset",
    "group",
    "group_kind",
    "system",
    "prompt",
    "completion",
    "target",
    *LISTS,
)
FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")
"""How a cell begins that a spreadsheet takes for a formula (OWASP, "CSV Injection"), or one that
was made harmless."""
TURNS = '[{"role"'
"""How a cell begins that holds several turns."""


def to_cells(example: Example) -> dict[str, str]:
    """An example by CSV_COLUMNS; a conversation of several turns as JSON."""
    system = [turn.content for turn in example.prompt if turn.role == "system"]
    asked = [turn for turn in example.prompt if turn.role != "system"]
    text = asked[0].content if asked else ""
    is_plain = [turn.role for turn in asked] in ([], ["user"]) and not text.startswith(TURNS)
    turns = [turn for turn in prompt_turns(example) if turn["role"] != "system"]
    return {
        "id": example.id,
        "dataset": example.dataset,
        "group": example.group,
        "group_kind": example.group_kind,
        "system": "\n\n".join(system),
        "prompt": text if is_plain else as_json(turns),
        "completion": example.completion,
        "target": example.target or "",
        **{name: as_json(getattr(example, name)) for name in LISTS},
    }


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs: `'` comes before what begins as a formula does."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def restored(cell: str) -> str:
    """The cell that `harmless` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def plain_cells(row: dict[str, Any]) -> Mapping[str, Any]:
    """A row of a CSV file that medllm wrote, in its JSONL form; other rows as they are."""
    if not all(isinstance(row.get(name), str) for name in CSV_COLUMNS):
        return row
    cells = {name: restored(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
    try:
        lists = {name: json.loads(cells[name]) for name in LISTS}
        turns = json.loads(cells["prompt"]) if cells["prompt"].startswith(TURNS) else None
    except ValueError:
        return row
    system = cells.pop("system")
    prompt = [{"role": "system", "content": system}] if system else []
    if turns is None:
        turns = [{"role": "user", "content": cells["prompt"]}] if cells["prompt"] else []
    return {**cells, **lists, "prompt": [*prompt, *turns]}
