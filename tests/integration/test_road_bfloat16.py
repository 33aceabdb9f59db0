"""The whole road computing in 16 bits, which is what a GPU changes first.

Nothing here asks whether the numbers are good: a format that a GPU computes in must not stop any
verb, and must give about what float32 gives.
"""

import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medllm.artifacts.manifest import Manifest
from medllm.cli.main import run_command
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.engines.open import open_model
from medllm.models.hardware import Dtype
from medllm.models.load import resolve_model
from medllm.quantize.config import (
    AwqFormat,
    BnbFormat,
    Format,
    Fp8Format,
    QuantizeConfig,
    W8a8Format,
)
from medllm.quantize.verb import quantize
from medllm.serve.config import ServeConfig
from medllm.serve.verb import serve_once

for package in ("gptqmodel", "bitsandbytes", "llmcompressor"):
    pytest.importorskip(package)
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

RECIPE = """
name: road
model: medllm/tiny
dtype: bfloat16
calibrate: {mix: quickstart, samples: 8, holdout_samples: 4, min_tokens: 48, max_tokens: 256}
prepare: {datasets: [synthetic_radiology], max_examples: 40}
finetune:
  lora: {r: 4, lora_alpha: 8}
  training: {max_steps: 4, learning_rate: 5e-3, per_device_train_batch_size: 4, max_length: 256}
merge: {}
quantize:
  quality_texts: 2
  formats: [{format: gptq}, {format: gguf, type: Q4_K_M}]
evaluate: {tasks: [radiology, answers], limit: 2}
generate: {input: prompts.jsonl, max_tokens: 4}
serve: {max_tokens: 4}
"""
OTHERS: tuple[Format, ...] = (
    AwqFormat(), BnbFormat(), BnbFormat(type="int8"), Fp8Format(), W8a8Format()
)  # fmt: skip
"""Without a quality report, which takes a new process for each."""
MADE = ("gptq-4bit", "gguf-q4_k_m", "awq-4bit", "bnb-nf4", "bnb-int8", "fp8-dynamic", "w8a8")
IDS = list(range(20, 60))


@pytest.fixture(scope="module")
def road(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results."""
    require_llama_cpp()
    converter_script()
    home = tmp_path_factory.mktemp("bfloat16")
    (home / "road.yaml").write_text(RECIPE)
    (home / "prompts.jsonl").write_text(json.dumps({"prompt": "Findings: Clear lungs."}) + "\n")
    results = home / "results"
    chosen = ("--config", str(home / "road.yaml"), "--set", f"output_dir={results}")
    assert run_command(["run", *chosen, "--set", f"data_dir={home}"]) == 0
    quantize(
        QuantizeConfig(
            model=str(results / "merge"),
            calibration=results / "calibrate",
            formats=OTHERS,
            output=results / "quantize",
            quality=False,
            dtype="bfloat16",
        )
    )
    return results


def results_of(folder: Path) -> dict[str, Any]:
    return Manifest.read(folder).results


def expected_by(model: Path, dtype: Dtype) -> np.ndarray[Any, Any]:
    """The log-probabilities of a model on the same tokens."""
    with closing(open_model(resolve_model(str(model)), dtype=dtype)) as engine:
        return np.concatenate(list(engine.log_probs(IDS)))


def test_the_merge_is_compared_in_the_format_of_its_file(road: Path) -> None:
    found = results_of(road / "merge")

    assert found["dtype"] == found["compared_in"] == "float32"
    assert found["max_difference"] < 1e-4 < found["mean_difference_from_base"]


def test_the_quality_report_holds_numbers(road: Path) -> None:
    for name in MADE[:2]:
        found = results_of(road / "quantize" / name)
        assert found["computed_in"] == "bfloat16"
        assert 0 < found["kl_mean"] < 0.1
        assert math.isfinite(found["perplexity_medical"])


def test_every_model_is_scored_and_the_scores_say_in_which_format(road: Path) -> None:
    rows = results_of(road / "evaluate")["scores"]

    formats = {row["model"]: row["computed_in"] for row in rows}
    assert formats == {
        "tiny": "bfloat16", "merged": "bfloat16", "gptq-4bit": "bfloat16", "gguf-q4_k_m": "gguf"
    }  # fmt: skip
    assert all(row["perplexity"] > 1 for row in rows if row["task"] == "answers")
    assert results_of(road / "generate")["computed_in"] in {"bfloat16", "gguf"}


@pytest.mark.parametrize("name", MADE)
def test_every_format_computes_about_what_its_parent_does(name: str, road: Path) -> None:
    expected = expected_by(road / "merge", "float32")

    found = expected_by(road / "quantize" / name, "bfloat16")

    assert np.isfinite(found).all()
    assert np.abs(np.exp(found) - np.exp(expected)).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["merge", "finetune"])
def test_in_16_bits_a_model_computes_about_what_it_does_in_32(
    name: str, dtype: Dtype, road: Path
) -> None:
    expected = expected_by(road / name, "float32")

    found = expected_by(road / name, dtype)

    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).mean() < 0.05


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_served(dtype: Dtype, road: Path) -> None:
    assert serve_once(ServeConfig(model=str(road / "merge"), dtype=dtype, max_tokens=4))
