"""The shortened PubMedQA recipe on the real release and a real small model."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.data.example import read_jsonl
from medllm.data.registry.datasets import open_dataset
from medllm.errors import SetupError

ANSWER_GAIN = 0.2
"""Nats a token by which 12 steps must lower the loss on held-out answers; measured: 0.38."""
QUANTIZATION_COST = 0.1
"""Nats a token that four bits may cost; measured: GPTQ 0.004, Q4_K_M 0.017."""


def formats() -> str:
    """GPTQ, and GGUF where llama.cpp is set up."""
    from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp

    try:
        require_llama_cpp()
        converter_script()
    except SetupError:
        return "[{format: gptq, bits: 4, group_size: 128}]"
    return "[{format: gptq, bits: 4, group_size: 128}, {format: gguf, type: Q4_K_M}]"


SETTINGS = (
    "calibrate.samples=32",
    "calibrate.holdout_samples=16",
    "finetune.training.max_steps=12",
    "finetune.training.per_device_train_batch_size=4",
    "finetune.training.max_length=512",
    "quantize.quality_texts=2",
    "evaluate.limit=16",
)


@dataclass(frozen=True)
class Walk:
    """The results of the recipe."""

    folder: Path
    data: Path

    def manifest(self, name: str) -> Manifest:
        return Manifest.read(self.folder / name)

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(read_jsonl(self.folder / name))

    @property
    def losses(self) -> dict[str, float]:
        """Nats a token of held-out answers, by model."""
        scores = self.manifest("evaluate").results["scores"]
        return {row["model"]: row["loss"] for row in scores if row["kind"] == "answers"}


@pytest.fixture(scope="module")
def walk(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    home = tmp_path_factory.mktemp("pubmedqa")
    verbs = ("calibrate", "prepare", "finetune", "merge", "quantize", "evaluate")
    settings = [*SETTINGS, f"quantize.formats={formats()}", "serve=null"]
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "MEDLLM_DATA_DIR": str(shared / "data/qa"),
        "MEDLLM_MODEL": str(shared / "models/tiny-med"),
    }
    command = [sys.executable, "-m", "medllm", "run", "--config", "pubmedqa"]
    command += [part for setting in settings for part in ("--set", setting)]
    ended = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    titles = re.findall(r"^\d/6 (\w+): ", ended.stdout, re.MULTILINE)
    assert titles == list(verbs)
    return Walk(home / "runs/pubmedqa", shared / "data/qa")


def test_the_release_gives_446_54_and_500_rows(walk: Walk) -> None:
    results = walk.manifest("prepare").results

    assert [results[split] for split in ("train", "validation", "test")] == [446, 54, 500]
    assert walk.manifest("prepare").counts.rejected == {}


def test_the_official_test_ids_are_in_no_training_and_no_calibration(walk: Walk) -> None:
    official = {
        f"pubmedqa/{pmid}" for pmid in open_dataset("pubmedqa", data_dir=walk.data).test_ids
    }

    def ids(name: str) -> set[str]:
        return {row["id"] for row in walk.rows(name)}

    assert len(official) == 500
    assert ids("prepare/test.jsonl") == official
    calibration, holdout = "calibrate/calibration.jsonl", "calibrate/holdout_medical.jsonl"
    for name in ("prepare/train.jsonl", "prepare/validation.jsonl", calibration, holdout):
        assert not ids(name) & official
    assert len(ids(calibration)) == 32
    assert ids(calibration) <= ids("prepare/train.jsonl")
    assert ids(holdout) <= ids("prepare/validation.jsonl")


def test_every_folder_verifies(walk: Walk) -> None:
    for manifest in walk.folder.rglob("medllm.json"):
        verify_artifact(manifest.parent)


def test_training_lowers_the_loss_on_held_out_answers(walk: Walk) -> None:
    results, losses = walk.manifest("finetune").results, walk.losses

    assert results["validation_loss"] < results["validation_loss_before"] - ANSWER_GAIN
    assert losses["merged"] < losses["tiny-med"] - ANSWER_GAIN


def test_quantized_models_stay_beside_the_merged_one(walk: Walk) -> None:
    losses = walk.losses
    quantized = {name: loss for name, loss in losses.items() if name.startswith(("gptq", "gguf"))}

    assert quantized
    for loss in quantized.values():
        assert abs(loss - losses["merged"]) < QUANTIZATION_COST
        assert loss < losses["tiny-med"] - ANSWER_GAIN / 2


def test_every_answer_is_scored_on_an_official_test_question(walk: Walk) -> None:
    test = {row["id"] for row in walk.rows("prepare/test.jsonl")}

    for file in (walk.folder / "evaluate").rglob("*.jsonl"):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(records) == 16
        assert {record["id"] for record in records} <= test


def test_terms_are_those_of_pubmedqa(walk: Walk) -> None:
    for name in ("calibrate", "prepare", "finetune", "merge", "quantize/gptq-4bit", "evaluate"):
        terms = walk.manifest(name).data_terms
        assert [(term.dataset, term.licence) for term in terms] == [("pubmedqa", "MIT")]
