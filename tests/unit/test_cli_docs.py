"""`docs/cli.md` says what `--help` says."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "build_cli_docs.py"


def test_the_page_of_commands_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")

    rendered = runpy.run_path(str(SCRIPT))["render"]()

    assert rendered == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), (
        "run: .venv/bin/python scripts/build_cli_docs.py"
    )


def test_the_page_has_every_command() -> None:
    names = set(runpy.run_path(str(SCRIPT))["list_commands"]())

    assert {(), ("quantize",), ("datasets",), ("datasets", "add"), ("doctor",)} <= names
