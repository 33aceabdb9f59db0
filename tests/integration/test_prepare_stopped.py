"""prepare, stopped from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from medllm.artifacts.manifest import Manifest, file_problems
from medllm.data.example import read_jsonl
from medllm.prepare.pipeline import BLOCK_ROWS

ROWS = 4 * BLOCK_ROWS
"""Of four shards: two processes have work left when the first is finished."""


def write_questions(path: Path, count: int) -> str:
    rows = (
        {"id": n, "question": f"What of {n} and {n * n}?", "answer": f"Take {n} mg."}
        for n in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def start(place: Path, path: str, *flags: str) -> "subprocess.Popen[str]":
    command = ["-m", "medllm", "prepare", "--dataset", path, "--workers", "2", "--output", "out"]
    return subprocess.Popen(
        [sys.executable, *command, *flags],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def wait_for(process: "subprocess.Popen[str]", path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_killed_goes_on_with_its_finished_shards(tmp_path: Path) -> None:
    path = write_questions(tmp_path / "notes.jsonl", ROWS)
    shards = tmp_path / "out.unfinished" / "shards"

    with start(tmp_path, path) as process:
        wait_for(process, shards / "000000.json")
        process.kill()
    assert not (tmp_path / "out").exists()
    rows = shards / "000000.rows"
    rows.write_bytes(rows.read_bytes().replace(b"Take 7 mg", b"Keep 7 mg"))
    with start(tmp_path, path) as process:
        assert process.wait() == 0

    files = ("train.jsonl", "validation.jsonl", "test.jsonl")
    kept = [row for name in files for row in read_jsonl(tmp_path / "out" / name)]
    assert len({row["id"] for row in kept}) == len(kept) == ROWS
    assert sum("Keep 7 mg" in row["completion"] for row in kept) == 1  # not computed again
    assert not (tmp_path / "out" / "shards").exists()
    assert not (tmp_path / "out.unfinished").exists()
    folder = tmp_path / "out"
    assert file_problems(folder, Manifest.read(folder), anew=True) == []


def test_sigterm_ends_it_as_ctrl_c_does_and_it_resumes(tmp_path: Path) -> None:
    path = write_questions(tmp_path / "notes.jsonl", ROWS)

    with start(tmp_path, path, "--json") as process:
        wait_for(process, tmp_path / "out.unfinished" / "shards" / "000000.json")
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=120)

    assert process.returncode == 143
    assert "ended by SIGTERM; run the same command again to resume" in said
    assert json.loads(printed)["error"]["code"] == 143
    with start(tmp_path, path) as process:
        assert process.wait() == 0


def test_after_an_edit_of_its_description_nothing_of_before_is_kept(tmp_path: Path) -> None:
    path = write_questions(tmp_path / "notes.jsonl", ROWS)
    described = "title: T\nshape: columns\ncolumns: {prompt: question, completion: '%s{answer}'}\n"
    (tmp_path / "dataset.yaml").write_text(described % "Before: ")

    with start(tmp_path, path) as process:
        wait_for(process, tmp_path / "out.unfinished" / "shards" / "000000.json")
        process.kill()
    (tmp_path / "dataset.yaml").write_text(described % "After: ")
    with start(tmp_path, path) as process:
        assert process.wait() == 0

    kept = list(read_jsonl(tmp_path / "out" / "train.jsonl"))
    assert len(kept) > ROWS / 2
    assert all(row["completion"].startswith("After: ") for row in kept)


def test_ctrl_c_ends_all_processes_without_a_traceback(tmp_path: Path) -> None:
    path = write_questions(tmp_path / "notes.jsonl", ROWS)

    with start(tmp_path, path) as process:
        wait_for(process, tmp_path / "out.unfinished" / "shards" / "000000.json")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)  # returns once no worker holds the pipe

    assert process.returncode == 130
    assert "Traceback" not in err
    assert (tmp_path / "out.unfinished" / "shards" / "000000.json").is_file()
