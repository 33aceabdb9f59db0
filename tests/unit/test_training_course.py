"""What the loss curves of a training say."""

import json
from pathlib import Path

import pytest

from medllm.finetune.report import LossCurves, write_report


def course(*validation: float) -> LossCurves:
    history = [{"step": step, "eval_loss": loss} for step, loss in enumerate(validation[1:], 1)]
    return LossCurves.of([*history, {"step": 1, "loss": "2.5"}], validation[0])


@pytest.mark.parametrize(
    ("validation", "verdict"),
    [
        ((3.0, 2.0, 1.5, 1.9), "Over-fitting: the validation loss was lowest at step 2"),
        ((3.0, 3.1, 3.2), "Nothing was learned"),
        ((3.0, 2.0, 1.5), "still falling"),
        ((3.0, 2.0, 1.99), "levelled off"),
        ((3.0, 2.9), "cannot be told from one evaluation"),
        ((3.0,), "Not known"),
    ],
)
def test_the_verdict_names_what_is_seen(validation: tuple[float, ...], verdict: str) -> None:
    assert verdict in course(*validation).verdict


def test_without_validation_rows_nothing_is_claimed() -> None:
    assert LossCurves.of([{"step": 1, "loss": 2.0}], None).verdict.startswith("Not known")


def test_the_report_holds_numbers_and_curves(tmp_path: Path) -> None:
    write_report(course(3.0, 2.0, 1.99), {"steps": 2, "total_flos": None}, tmp_path)

    assert json.loads((tmp_path / "course.json").read_text()) == {
        "training": [[1, 2.5]],
        "validation": [[0, 3.0], [1, 2.0], [2, 1.99]],
    }
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert "levelled off" in page
    assert "not measured" in page
    assert "<svg" in page
