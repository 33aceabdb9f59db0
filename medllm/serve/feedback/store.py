"""The file of feedback, and the rows of it that a model may be trained on."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medllm.data.example import as_json, read_jsonl
from medllm.errors import SetupError
from medllm.places import config_dir
from medllm.serve.audit.chain import write_whole

FOLDER, FILE = "feedback", "feedback.jsonl"
FIT_HELPFULNESS, FIT_ACCURACY = 4, 5
"""From these marks on an answer may be trained on as it was given."""


def feedback_folder(named: Path | None, model: str) -> Path:
    """Where the feedback on a model lies: where it is named to, else in the user's settings."""
    return named or config_dir() / FOLDER / re.sub(r"[^\w.-]+", "-", model)


class FeedbackStore:
    """Feedback in a file that its owner alone can read, apart from the audit log.

    A line holds `id`, `time`, `caller`, `model`, `helpfulness` and what else was said:
    `accuracy`, `comment`, and where the caller sent them `asked` (the conversation), `answered`
    and `correction`.
    """

    def __init__(self, folder: Path) -> None:
        """Raises SetupError where it cannot be written."""
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._file = os.fdopen(os.open(self.path, flags, 0o600), "ab", 0)
            content = self.path.read_bytes()
            os.truncate(self.path, content.rfind(b"\n") + 1)  # what a killed server left of a line
        except OSError as problem:
            message = f"feedback cannot be written to {folder}: {problem.strerror}"
            raise SetupError(message, "name a folder of yours as serve.feedback") from problem

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a line; it is on the disk when this returns. Raises OSError where it is not kept."""
        write_whole(self._file, as_json(dict(row)).encode("utf-8", "backslashreplace") + b"\n")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was said, the oldest first."""
        return read_jsonl(self.path)

    def export(self) -> Iterator[str]:
        """Rows that `prepare` reads, one a line: what a model may be trained on.

        That is a correction, or else an answer that the review found nothing in, of these marks;
        of several lines by one caller on one answer, the last.
        """
        latest = {(row["id"], row["caller"]): row for row in self.lines()}
        for row in latest.values():
            if said := _worth_training(row):
                yield json.dumps(_example(row, said), ensure_ascii=False) + "\n"


def _worth_training(row: Mapping[str, Any]) -> str | None:
    if not row.get("asked"):
        return None
    if row.get("correction"):
        return str(row["correction"])
    is_good = row["helpfulness"] >= FIT_HELPFULNESS and row.get("accuracy", 0) >= FIT_ACCURACY
    return row.get("answered") if is_good and row["is_clean"] else None


def _example(row: Mapping[str, Any], said: str) -> dict[str, Any]:
    turns = [*row["asked"], {"role": "assistant", "content": said}]
    told = {name: row[name] for name in ("helpfulness", "accuracy", "comment") if name in row}
    return {
        "id": f"{row['id']}/{row['caller']}",
        "messages": turns,
        **told,
        "is_correction": said == row.get("correction"),
        "answered_by": row["model"],
        "rated_by": row["caller"],
        "rated_at": row["time"],
    }
