"""What both arms do, and how far apart they are."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typed import COMMAND, QUIET

from medllm.artifacts.manifest import Manifest
from medllm.cli.main import run_command
from medllm.engines.open import open_model
from medllm.engines.transformers import TransformersEngine
from medllm.models.hardware import Dtype
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model

LogProbs = npt.NDArray[np.floating[Any]]
RECIPE = """
name: road
model: medllm/tiny
calibrate: {mix: quickstart, samples: 16, holdout_samples: 4, min_tokens: 48, max_tokens: 256}
prepare: {datasets: [synthetic_radiology], max_examples: 64}
finetune:
  lora: {r: 8, lora_alpha: 16}
  training:
    max_steps: 12
    learning_rate: 2e-3
    per_device_train_batch_size: 8
    max_length: 256
    packing: false
    logging_steps: 1
    report_to: []
merge: {}
quantize: {quality_texts: 4, formats: [{format: gptq}]}
evaluate: {tasks: [radiology, answers], limit: 4}
generate: {input: prompts.jsonl, max_tokens: 8}
"""
"""Rows are not packed: that is for one of the arms alone, and changes what a step sees."""
PROMPT = {"prompt": "Findings: Clear lungs."}
TEXT = (
    "Findings: The lungs are clear. There is no pleural effusion or pneumothorax. The heart is "
    "normal in size.\nImpression: No acute cardiopulmonary abnormality."
)


@dataclass(frozen=True)
class Device:
    """What is tested."""

    name: str
    dtype: Dtype
    """What it is asked to compute in; `auto` as users leave it."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is one, and no processor that stands in for it."""
        return self.name != "cpu"


@dataclass(frozen=True)
class Road:
    """The folders of the results of both arms."""

    device: Path
    cpu: Path

    def results(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the manifests of both say: the device's, and the processor's."""
        found, expected = (Manifest.read(arm / name) for arm in (self.device, self.cpu))
        return found.results, expected.results


def write_recipe(home: Path, arm: str, dtype: Dtype) -> list[str]:
    """A recipe for one arm, and how it is named to `medllm`."""
    (home / "prompts.jsonl").write_text(json.dumps(PROMPT) + "\n")
    recipe = home / f"{arm}.yaml"
    recipe.write_text(f"dtype: {dtype}\noutput_dir: {arm}\n{RECIPE}")
    return ["run", "--config", str(recipe)]


def walk(command: list[str]) -> None:
    """Run a command in this process, on the device."""
    assert run_command(command) == 0


@contextmanager
def on_cpu(*commands: list[str]) -> Iterator[Callable[[], None]]:
    """Run commands in processes that see no GPU, meanwhile; gives what waits for their ends."""
    running = [
        subprocess.Popen(
            [*COMMAND, *command],
            env={**os.environ, **QUIET, "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]

    def wait() -> None:
        for process in running:
            _, said = process.communicate(timeout=600)
            assert process.returncode == 0, said

    try:
        yield wait
    finally:
        for process in running:
            process.kill()
            process.wait()


def expected_on_device(folder: Path, dtype: Dtype) -> LogProbs:
    """What a model expects after each token of a text, as any verb opens it."""
    with closing(open_model(resolve_model(str(folder)), dtype=dtype)) as engine:
        ids = engine.encode(TEXT, add_special_tokens=True)  # type: ignore[attr-defined]
        return np.concatenate(list(engine.log_probs(ids)))  # type: ignore[attr-defined]


def expected_on_cpu(folder: Path) -> LogProbs:
    """The same, computed by the processor in float32."""
    loaded = load_causal_lm(str(folder), dtype="float32", device="cpu")
    engine = TransformersEngine(loaded, load_tokenizer(str(folder)))
    return np.concatenate(list(engine.log_probs(engine.encode(TEXT, add_special_tokens=True))))


def distance(found: LogProbs, expected: LogProbs) -> float:
    """The share of probability that lies elsewhere (total variation), the mean of all positions."""
    assert np.isfinite(found).all()
    width = min(found.shape[1], expected.shape[1])  # llama.cpp may pad a vocabulary
    moved = np.abs(np.exp(found[:, :width]) - np.exp(expected[:, :width]))
    return float(moved.sum(axis=1).mean() / 2)
