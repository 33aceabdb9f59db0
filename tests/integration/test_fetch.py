"""`datasets fetch` against a hub of our own on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medllm.data.example import Example
from medllm.data.registry.datasets import Dataset, DatasetSpec, open_dataset
from medllm.data.registry.hub import HubSource
from medllm.data.shapes import Columns

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"idx": str(n), "note": "A note", "full_note": f"The whole of note {n}.", "conversation": "",
     "summary": "{}"}
    for n in range(3)
]  # fmt: skip
RELEASE = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@dataclass
class Hub:
    """One repository; `asked` are the paths of which a body was sent."""

    url: str
    files: dict[str, bytes]
    gated: bool = False
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith("/api/"):
                siblings = [{"rfilename": name} for name in repository.files]
                body = json.dumps({"id": "o/n", "sha": COMMIT, "siblings": siblings}).encode()
            else:
                body = repository.files[name]
            if "/tree/" in path:
                body = json.dumps(
                    [{"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                     for name, content in repository.files.items()]
                ).encode()  # fmt: skip
            refused = repository.gated and "/resolve/" in path
            self.send_response(403 if refused else 200)
            if refused:
                self.send_header("X-Error-Code", "GatedRepo")
                body = b""
            self.send_header("ETag", f'"{name}-1"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                repository.asked.append(path)
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    files = {"augmented_notes_30K.jsonl": RELEASE, "README.md": b"A card."}
    repository = Hub(f"http://127.0.0.1:{server.server_port}", files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield repository
    server.shutdown()
    server.server_close()


def fetch(hub: Hub, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"),
        "MEDLLM_DATA_DIR": str(tmp_path / "datasets"),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "medllm", "datasets", "fetch", "augmented_clinical_notes"],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip


def test_the_named_files_come_into_the_data_folder_once(hub: Hub, tmp_path: Path) -> None:
    first = fetch(hub, tmp_path)

    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(
        "augmented_clinical_notes: 3 rows (30,000 in the full release) of shape columns"
    )
    folder = tmp_path / "datasets/augmented_clinical_notes"
    assert (folder / "augmented_notes_30K.jsonl").read_bytes() == RELEASE
    assert not (folder / "README.md").exists()

    bodies = [path for path in hub.asked if "/resolve/" in path]
    assert fetch(hub, tmp_path).returncode == 0
    assert [path for path in hub.asked if "/resolve/" in path] == bodies


def test_a_gated_repository_is_one_line_with_its_licence_page(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True

    ended = fetch(hub, tmp_path)

    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-2:] == [
        "error: AGBonnet/augmented-clinical-notes: gated: its licence must be accepted first",
        "  fix: accept it at https://huggingface.co/datasets/AGBonnet/augmented-clinical-notes, "
        "then `hf auth login` or set HF_TOKEN",
    ]


def test_a_hub_without_the_files_is_a_data_error(hub: Hub, tmp_path: Path) -> None:
    del hub.files["augmented_notes_30K.jsonl"]

    ended = fetch(hub, tmp_path)

    assert ended.returncode == 3
    assert "has no files like augmented_notes_30K.jsonl" in ended.stderr


def test_what_is_read_from_the_hub_is_named_by_its_commit(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "dataset.yaml").write_text("title: Notes\nshape: local\nhub: {id: o/n}\n")

    dataset = open_dataset("notes", data_dir=tmp_path)

    assert dataset.parent.path == f"o/n/default/train@{COMMIT}"


def test_splits_of_the_hub_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(RELEASE)
    (tmp_path / "test.jsonl").write_bytes(RELEASE)
    (tmp_path / "other.txt").write_text("no row")
    source = HubSource(id=str(tmp_path), splits={"train": "train", "test": "test"})
    spec = DatasetSpec(
        title="Notes", shape="columns", hub=source, columns=Columns(completion="full_note")
    )

    rows = list(Dataset("notes", spec).examples())

    assert all(isinstance(row, Example) for row in rows)
    assert [(row.id, row.metadata["split"]) for row in rows if isinstance(row, Example)] == [
        *((f"notes/train-{n}", "train") for n in (1, 2, 3)),
        *((f"notes/test-{n}", "test") for n in (1, 2, 3)),
    ]
