"""`medllm calibrate --analyze`: a report on a file of texts, which holds none of them."""

import json
from pathlib import Path

import pytest

from medllm.cli.main import run_command

SECRET = "XQZ-SECRET-MARKER"


@pytest.fixture
def texts(own_places: Path) -> Path:
    path = own_places / "texts.jsonl"
    rows = [
        {"id": 1, "text": f"{SECRET}: acute renal failure, metformin held.", "source": "ward"},
        {"id": 2, "text": f"{SECRET}: they walked to the market and bought some bread."},
        {"id": 3, "text": f"{SECRET}: they walked to the market and bought some bread."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_report_on_private_texts_holds_numbers_and_no_text(
    texts: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["calibrate", "--analyze", "texts.jsonl", "--output", "report"]) == 0

    folder = texts.parent / "report"
    page = (folder / "report.html").read_text(encoding="utf-8")
    statistics = (folder / "statistics.json").read_text(encoding="utf-8")
    found = json.loads(statistics)
    assert {path.name for path in folder.iterdir()} == {"plots", "report.html", "statistics.json"}
    assert found["samples"] == 3
    assert found["sources"] == {"texts": 2, "source 1": 1}
    assert found["duplicates"] == 1
    assert found["medical_share"] == pytest.approx(1 / 3)
    assert found["min_tokens"] > 0
    shown = capfd.readouterr()
    assert "1 duplicate texts" in shown.out
    assert "1 duplicate texts" in page
    for text in (page, statistics, shown.out, shown.err):
        assert SECRET not in text
        assert "market" not in text


def test_a_report_that_is_there_is_not_replaced(
    texts: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (texts.parent / "report").mkdir()
    (texts.parent / "report/report.html").write_text("mine")

    assert run_command(["calibrate", "--analyze", "texts.jsonl", "--output", "report"]) == 2

    assert "holds a report already" in capfd.readouterr().err
    assert (texts.parent / "report/report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [("nowhere.jsonl", None, "no such data file"), ("empty.jsonl", "", "holds no texts")],
)
def test_a_file_without_texts_is_an_error_and_leaves_nothing(
    own_places: Path, capfd: pytest.CaptureFixture[str], file: str, content: str | None, error: str
) -> None:
    if content is not None:
        (own_places / file).write_text(content)

    assert run_command(["calibrate", "--analyze", file, "--output", "report"]) == 3

    assert error in capfd.readouterr().err
    assert not (own_places / "report").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--samples", "5"], "--samples"),
        (["--seed", "1", "--dry-run", "--min-tokens", "9"], "--min-tokens, --seed, --dry-run"),
    ],
)
def test_a_flag_that_a_report_does_not_read_is_refused(
    texts: Path, capfd: pytest.CaptureFixture[str], flags: list[str], named: str
) -> None:
    assert run_command(["calibrate", "--analyze", "texts.jsonl", "--output", "report", *flags]) == 2

    assert f"{named}: --analyze does not read it" in capfd.readouterr().err
    assert not (texts.parent / "report").exists()


@pytest.mark.parametrize("share", ["25", "1.01", "-0.1"])
def test_a_percentage_is_no_general_share(
    own_places: Path, capfd: pytest.CaptureFixture[str], share: str
) -> None:
    assert run_command(["calibrate", "--general-share", share, "--dry-run"]) == 2

    assert "--general-share: input should be" in capfd.readouterr().err
