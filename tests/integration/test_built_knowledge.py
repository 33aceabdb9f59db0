"""The rules that ship are those that people write."""

from pathlib import Path
from runpy import run_path

from medllm.clinical.rules.knowledge import KNOWLEDGE

BUILD = run_path(str(Path(__file__).parents[2] / "scripts" / "build_knowledge.py"))


def test_what_ships_is_what_is_written() -> None:
    assert KNOWLEDGE.read_text(encoding="utf-8") == BUILD["rendered"]()
