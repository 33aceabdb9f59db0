"""Where the processor computes though there is a GPU, that is said once, and recorded."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typed import Typed

from medllm.finetune.config import FinetuneConfig
from medllm.models import gpu
from medllm.models.hardware import pick_device


@pytest.fixture(autouse=True)
def looks_anew() -> Iterator[None]:
    """What is remembered of this machine is forgotten before and after."""
    for remembered in (gpu.read_facts, gpu.uses_cuda):
        remembered.cache_clear()
    yield
    for remembered in (gpu.read_facts, gpu.uses_cuda):
        remembered.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that knows two GPUs, and a PyTorch that reaches none."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("PyTorch sees a real GPU")
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    rows = "GPU-1, NVIDIA A100, 535.104.05, 81000, Disabled\nGPU-2, Tesla T4, 535.104.05, 9, [N/A]"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}\nEND\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")


def test_a_gpu_that_is_left_alone_is_told_and_recorded(
    nvidia_smi: None, typed: Typed, own_places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    asked = ["--model", "medllm/tiny", "--tasks", "radiology", "--limit", "2", "--output", "out"]

    ended = typed("evaluate", *asked)

    assert ended.returncode == 0
    told = [line for line in ended.stderr.splitlines() if "the processor computes" in line]
    assert len(told) == 1, ended.stderr
    assert told[0].startswith("the processor computes, not NVIDIA A100, Tesla T4: PyTorch ")
    manifest = json.loads(Path("out/medllm.json").read_text(encoding="utf-8"))
    assert manifest["environment"]["device"].startswith("cpu (not the GPU: PyTorch ")


def test_hidden_gpus_are_told(
    nvidia_smi: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert [pick_device(), pick_device()] == ["cpu", "cpu"]

    told = 'not NVIDIA A100, Tesla T4: CUDA_VISIBLE_DEVICES="" hides it; `unset CUDA_VISIBLE_DEVIC'
    assert capfd.readouterr().err.count(told) == 1


def test_the_doctor_tells_it_and_does_not_stop(nvidia_smi: None, typed: Typed) -> None:
    ended = typed("doctor")

    assert ended.returncode == 0
    assert "NVIDIA A100, Tesla T4: PyTorch" in " ".join(ended.stdout.split())
    assert "driver 535.104.05" in ended.stdout


def test_of_several_gpus_a_training_takes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL refuses the copies of a model that transformers would put on all of them."""
    import torch

    from medllm.finetune.train.trainer import trainer_arguments

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = FinetuneConfig(model="medllm/tiny", dtype="float32")

    arguments = trainer_arguments(config, tmp_path, "cuda", can_evaluate=False)

    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == config.training.per_device_train_batch_size
