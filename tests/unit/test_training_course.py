"""What the loss curves of a training say."""

import json
from pathlib import Path

import pytest

from medllm.finetune.config import FinetuneConfig
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
    kept = {"every": 8, "estimated_gib": 63.8, "free_gib": 73.5}
    results = {
        "recomputation": kept,
        "not_varlen_attn": None,
        "steps": 2,
        "total_flos": None,
        "rows": {"examples": 12_345, "truncated": 0},
    }
    config = FinetuneConfig(model="/home/anna/models/base", data=Path("/srv/ward"), recipe="mine")

    write_report(course(3.0, 2.0, 1.99), results, tmp_path, config)

    assert json.loads((tmp_path / "course.json").read_text()) == {
        "training": [[1, 2.5]],
        "validation": [[0, 3.0], [1, 2.0], [2, 1.99]],
    }
    assert (tmp_path / "plots/loss.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert "levelled off" in page
    assert "went from 3.000 to 1.990 nats a token" in page
    assert "not measured" in page
    assert "12,345" in page
    assert "computed again in one of 8 layers, else kept: about 63.8 GiB" in page
    assert "{" not in page.partition("</style>")[2].partition("<svg")[2].partition("</svg>")[2]
    assert "packed rows" not in page
    assert "truncated" not in page
    assert "models/base" in page
    assert "/home" not in page
    assert "<svg" in page
