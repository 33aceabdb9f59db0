"""A study and a sweep on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm.cli.main import run_command
from medllm.data.example import read_jsonl
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.errors import SetupError
from medllm.models.load import load_tokenizer
from medllm.models.tiny.base import tiny_base

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("converter")
WINDOWS, TOKENS = 3, 64
CALIBRATE = {
    "mix": "quickstart",
    "samples": 6,
    "holdout_samples": 3,
    "min_tokens": 32,
    "max_tokens": 512,
}
QUANTIZE = {
    "formats": [
        {"format": "gguf", "type": "Q3_K_S"},
        {"format": "gguf", "type": "Q4_0", "imatrix": False},
    ]
}


def write_recipe(path: Path, **sections: Any) -> Path:
    recipe = {"model": "medllm/tiny", "output_dir": "made", "calibrate": CALIBRATE, **sections}
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def test_a_study_compares_equal_budgets_and_is_not_done_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = {
        "draws": 2,
        "windows": WINDOWS,
        "window_tokens": TOKENS,
        "reference": "medical",
        "arms": {"medical": {}, "noise": {"random_tokens": True}},
    }
    evaluate = {"tasks": ["radiology"], "limit": 2}
    recipe = write_recipe(
        tmp_path / "study.yaml", study=study, quantize=QUANTIZE, evaluate=evaluate
    )

    assert run_command(["run", "--config", str(recipe)]) == 0

    folder = tmp_path / "made/study"
    outcome = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert outcome["budget"] == [WINDOWS, TOKENS]
    calibrated = outcome["formats"]["gguf-q3_k_s"]
    assert calibrated["arms"].keys() == {"medical", "noise"}
    assert calibrated["differences"].keys() == {"noise"}
    assert outcome["formats"]["gguf-q4_0-no-imatrix"]["arms"].keys() == {"uncalibrated"}
    for found in calibrated["arms"].values():
        assert found["tokens"] == [WINDOWS * TOKENS] * 2
        assert len(found["draws"]["kl all"]) == 2
        assert found["low"]["kl all"] <= found["mean"]["kl all"] <= found["high"]["kl all"]
        assert 0 <= found["mean"]["radiology accuracy"] <= 1
    check_sets(folder)
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "happens by chance in 33%" in page
    made = stamps(folder)
    capfd.readouterr()

    assert run_command(["run", "--config", str(recipe)]) == 0

    assert stamps(folder) == made
    assert "GGUF" not in capfd.readouterr().err


def check_sets(folder: Path) -> None:
    """All sets have the same tokens, other texts, and nothing of the holdouts."""
    tokenizer = load_tokenizer(str(tiny_base()))
    texts = {}
    for path in sorted(folder.glob("*/set/calibration.jsonl")):
        texts[path.parts[-3]] = [row["text"] for row in read_jsonl(path)]
    assert len(texts) == 4
    for windows in texts.values():
        ids = tokenizer(windows, add_special_tokens=False)["input_ids"]
        assert [len(each) for each in ids] == [TOKENS] * WINDOWS
    assert len({" ".join(windows) for windows in texts.values()}) == 4, "each draw is another"
    held_out = {
        row["text"] for path in folder.glob("holdouts/holdout_*") for row in read_jsonl(path)
    }
    drawn = [row for path in folder.glob("*/calibrate/calibration.jsonl")
             for row in read_jsonl(path)]  # fmt: skip
    assert held_out
    assert not held_out & {row["text"] for row in drawn}


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("medllm.json")}


def test_a_study_has_no_parts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = {"arms": {"one": {}, "two": {"samples": 3}}}
    recipe = write_recipe(tmp_path / "study.yaml", study=study, quantize=QUANTIZE)

    assert run_command(["run", "--config", str(recipe), "--only", "quantize"]) == 2

    assert "walked as a whole" in capfd.readouterr().err


def test_a_reference_that_is_no_arm_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = {"reference": "three", "arms": {"one": {}, "two": {"samples": 3}}}
    recipe = write_recipe(tmp_path / "study.yaml", study=study, quantize=QUANTIZE)

    assert run_command(["run", "--config", str(recipe)]) == 2

    assert "no arm 'three'" in capfd.readouterr().err


def test_too_little_text_for_the_budget_is_said_before_anything_is_quantized(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = {"draws": 1, "windows": 500, "arms": {"one": {}, "two": {"samples": 3}}}
    recipe = write_recipe(tmp_path / "study.yaml", study=study, quantize=QUANTIZE)

    assert run_command(["run", "--config", str(recipe)]) == 3

    assert "raise calibrate.samples" in capfd.readouterr().err
    assert not list(tmp_path.rglob("quantize"))


def test_a_sweep_names_the_knee(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "sweep.yaml")
    command = ["quantize", "--config", str(recipe), "--type", "Q3_K_S", "--sweep-samples", "3,6"]

    assert run_command(command) == 0

    told = capfd.readouterr().out
    assert "the knee is at" in told
    assert "95 % interval" in told
    folder = tmp_path / "made/quantize/sweep"
    arms = json.loads((folder / "study.json").read_text(encoding="utf-8"))["formats"][
        "gguf-q3_k_s"
    ]["arms"]
    assert [*arms] == ["3", "6"]
    assert 0 < arms["3"]["tokens"][0] < arms["6"]["tokens"][0]
    assert all(found["mean"]["seconds"] > 0 for found in arms.values())
    assert "<svg" in (folder / "study.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("sizes", ["128", "a,b", "0,128", "128,128"])
def test_sizes_that_are_none_are_refused(sizes: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["quantize", "--type", "Q8_0", "--sweep-samples", sizes]) == 2
    assert "not sizes to compare" in capfd.readouterr().err
