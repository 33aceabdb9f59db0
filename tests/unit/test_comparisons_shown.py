"""Comparisons as a table that a terminal of 80 columns holds."""

from typing import Any

import pytest

from medllm import console
from medllm.evaluate.analysis.shown import comparisons_of

CHANGE = {"value": 0.62, "low": 0.545, "high": 0.695}


def compared(model: str, baseline: str = "tiny") -> dict[str, Any]:
    return {
        "model": model, "baseline": baseline, "task": "laterality", "unit": "share", "items": 200,
        "units": 200, "differing": {"value": 0.68, "low": 0.61, "high": 0.744},
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


@pytest.mark.parametrize(("units", "what"), [(200, "item"), (50, "group")])
def test_models_of_which_no_item_differs_are_said_to_be_so(units: int, what: str) -> None:
    alike = {
        **compared("merged"), "unit": "F1 an answer", "units": units, "gained": None,
        "conclusion": "no difference shown", "detectable": None, "verdict": "not decided",
        "difference": {"value": 0.0, "low": None, "high": None},
        "differing": {"value": 0.0, "low": 0.0, "high": 0.0183},
    }  # fmt: skip
    columns, (row,), _ = comparisons_of([alike])

    assert row[columns.index("difference\n95 %")] == "+0.000\nno interval"
    assert row[-1] == f"no difference shown; not decided; no {what} differs, up to 1.8 % may"
