"""prepare, where it needs no model."""

import json
from pathlib import Path

import pytest

from medllm.errors import ConfigError
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare


def write_rows(path: Path, rows: list[dict[str, str]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = [{"question": "Q", "answer": "A"}]
    files = tuple(write_rows(tmp_path / folder / "notes.jsonl", rows) for folder in "ab")

    with pytest.raises(ConfigError, match="2 datasets are called 'notes'"):
        prepare(PrepareConfig(datasets=files, output=tmp_path / "out"))


def test_every_row_is_in_one_split_or_has_a_reason(tmp_path: Path) -> None:
    rows = [{"patient_id": str(i % 40), "question": f"Q{i}", "answer": "A"} for i in range(400)]
    rows += [rows[0], {"question": "Q", "answer": ""}]
    manifest = prepare(
        PrepareConfig(
            datasets=(write_rows(tmp_path / "notes.jsonl", rows),), output=tmp_path / "out"
        )
    )

    kept = {
        split: [
            json.loads(line)
            for line in (tmp_path / "out" / f"{split}.jsonl").read_text("utf-8").splitlines()
        ]
        for split in ("train", "validation", "test")
    }
    groups = [{row["group"] for row in found} for found in kept.values()]
    assert sum(map(len, kept.values())) + sum(manifest.counts.rejected.values()) == len(rows)
    assert set.union(*groups) == {str(i) for i in range(40)}
    assert sum(map(len, groups)) == 40
    assert manifest.counts.rejected["no answer"] == 1
    assert manifest.access == "private"
