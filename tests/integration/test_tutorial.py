"""The commands of docs/tutorial.md, run as the page shows them, with a tiny model as the base."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from served import interrupted_once_served
from typed import Typed

from medllm.artifacts.verify import verify_artifact
from medllm.cli.main import INTERRUPTED, run_command

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)
SMALL: dict[str, dict[str, Any]] = {
    "finetune": {"training": {"max_steps": 2, "eval_steps": 2}},
    "calibrate": {"samples": 8, "holdout_samples": 2},
    "evaluate": {"limit": 4},
}
"""What the test sets lower than the page, for the sake of time."""
MADE = ("prepare", "finetune", "merge", "calibrate", "quantize/gguf-q4_k_m", "evaluate")
KEY = "the-key-of-a-test"


@pytest.fixture
def places(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the reader's data, base and checkout are."""
    monkeypatch.setenv("MEDLLM", str(ROOT))
    monkeypatch.setenv("MEDLLM_MODEL", str(tiny_model))
    monkeypatch.setenv("MEDLLM_API_KEY", KEY)


def read_blocks() -> list[tuple[str, str, str]]:
    """The language, the name and the text of each block of the page."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def read_commands(block: str) -> Iterator[str]:
    """The commands of a block; one may have a quoted text of several lines."""
    command = ""
    for line in block.replace("\\\n", " ").splitlines():
        command += line
        try:
            shlex.split(command, comments=True)
        except ValueError:  # a quotation that is not closed yet
            command += "\n"
        else:
            yield command
            command = ""
    assert not command


def made_small(recipe: str) -> str:
    """The page's recipe with less to do."""
    document = yaml.safe_load(recipe)
    for verb, settings in SMALL.items():
        for key, value in settings.items():
            known = document[verb].get(key)
            document[verb][key] = known | value if isinstance(known, dict) else value
    return yaml.safe_dump(document)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_page_can_be_followed(
    places: None, typed: Typed, capfd: pytest.CaptureFixture[str]
) -> None:
    printed: dict[str, str] = {}
    asked: list[dict[str, Any]] = []

    def ask(url: str, _: str) -> None:
        body = json.loads(shlex.split(request)[-1])
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=60)
        asked.append(answer.json())

    shell = [text for language, _, text in read_blocks() if language == "shell"]
    (request,) = (c for text in shell for c in read_commands(text) if c.startswith("curl"))
    for language, name, text in read_blocks():
        if name:
            Path(name).write_text(made_small(text) if name == "ward.yaml" else text)
        for command in read_commands(text) if language == "shell" else ():
            words = shlex.split(command, comments=True)
            if words[0] == "medllm" and words[1] == "serve":
                with interrupted_once_served(capfd, ask):
                    ended = run_command([*words[1:-1], "0"])  # any free port
                assert ended in (0, INTERRUPTED)
            elif words[0] == "medllm":
                done = typed(*words[1:])
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
                printed[" ".join(words[1:3])] = done.stdout + done.stderr
            elif words[0] not in ("export", "curl"):
                subprocess.run(["bash", "-c", command], check=True)

    for folder in MADE:
        verify_artifact(Path("runs/ward") / folder)
    assert [answer.get("object") for answer in asked] == ["chat.completion"], asked
    shown = [text for language, _, text in read_blocks() if language == "text"]
    (prepared,) = (text for text in shown if "left out: 2" in text)
    assert all(line.strip() in printed["prepare --config"] for line in prepared.splitlines())
    (added,) = (text for text in shown if "read as cp1252" in text)
    told = [line.removesuffix("…").strip() for line in added.splitlines()]
    assert [line for line in told if line not in printed["datasets add"]] == []


def test_the_export_is_what_the_page_says() -> None:
    raw = (ROOT / "data" / "ward_reports.csv").read_bytes()
    text = raw.decode("cp1252")
    (shown,) = (t for _, _, t in read_blocks() if t.startswith("PatNr;"))

    assert b"Innere S\xfcd" in raw and "\r\n" in text
    assert text.splitlines()[0] == shown.splitlines()[0]
    assert text.splitlines()[1].startswith(shown.splitlines()[1].partition("…")[0].strip())
    assert len(text.splitlines()) == 303
    assert "Its 302 reports" in " ".join(PAGE.read_text(encoding="utf-8").split())
