"""Comparisons as a table that a terminal of 80 columns holds."""

from typing import Any

import pytest

from medllm import console
from medllm.evaluate.analysis.shown import comparisons_of

CHANGE = {"value": 0.62, "low": 0.545, "high": 0.695}


def compared(model: str, baseline: str = "tiny") -> dict[str, Any]:
    return {
        "model": model, "baseline": baseline, "task": "laterality", "unit": "share", "items": 200,
        "before": 0.225, "after": 0.845, "difference": CHANGE, "gained": 130, "lost": 6,
        "p_holm": 1e-9, "detectable": 0.162, "conclusion": "better",
    }  # fmt: skip


def test_what_all_rows_have_alike_stands_in_the_title() -> None:
    columns, rows, title = comparisons_of([compared("merged"), compared("gguf")])
    _, _, other = comparisons_of([compared("merged"), compared("gguf", "merged")])

    assert title == "paired, item by item: beside tiny, task laterality, n 200"
    assert other == "paired, item by item: task laterality, n 200"
    assert columns[:2] == ["model", "was → is"]
    assert [row[:2] for row in rows] == [["merged", "22.5 → 84.5"], ["gguf", "22.5 → 84.5"]]


def test_no_word_of_it_is_broken_at_80_columns(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = [compared("merged"), compared("gguf-q2_k-no-imatrix")]

    console.table(*comparisons_of(found))

    out = capfd.readouterr().out
    assert {"difference", "conclusion", "better", "gguf-q2_k-no-imatrix"} <= set(out.split())
    assert max(map(len, out.splitlines())) <= 80
