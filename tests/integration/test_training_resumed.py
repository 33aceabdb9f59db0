"""A training that was killed goes on exactly; a checkpoint that is broken is left out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from trainings import losses_of, small, write_examples
from transformers import TrainerState
from transformers.trainer_pt_utils import LengthGroupedSampler

from medllm.artifacts.manifest import Manifest
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.train.checkpoints import find_damage, newest_checkpoint
from medllm.finetune.train.resumption import SameOrder
from medllm.finetune.verb import finetune

Said = pytest.CaptureFixture[str]
TRAIN = """
import sys
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.verb import finetune
finetune(FinetuneConfig.model_validate_json(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    """4 passes of 6 steps; checkpoints in the middle of a pass, and between two lines of the log.

    Rows are grouped by length, as by default, and there is dropout.
    """
    folder = tmp_path_factory.mktemp("resumed")
    own = {"num_train_epochs": 4, "logging_steps": 3, "eval_steps": 8, "early_stopping_patience": 3}
    made = small(tiny_model, write_examples(folder / "data"), folder / "whole", **own)
    assert made.lora
    return made.model_copy(
        update={"lora": made.lora.model_copy(update={"lora_dropout": 0.2}), "seed": 3}
    )


@pytest.fixture(scope="module")
def whole(config: FinetuneConfig) -> Manifest:
    """What the training makes that nobody stops."""
    return finetune(config)


@pytest.fixture(scope="module")
def killed(config: FinetuneConfig) -> Path:
    """What SIGKILL leaves of the same training after its second checkpoint."""
    assert config.output
    folder = config.output.with_name("killed")
    document = config.model_copy(update={"output": folder}).model_dump_json()
    process = subprocess.Popen([sys.executable, "-c", TRAIN, document])
    left = folder.with_name("killed.unfinished")
    ends = time.monotonic() + 240
    while time.monotonic() < ends and find_damage(left / "checkpoints/checkpoint-16"):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return left


def test_a_killed_training_goes_on_exactly(
    config: FinetuneConfig, whole: Manifest, killed: Path, tmp_path: Path, capsys: Said
) -> None:
    shutil.copytree(killed, tmp_path / "out.unfinished")

    manifest = finetune(config.model_copy(update={"output": tmp_path / "out"}))

    assert "finetune: resuming from checkpoint-16\n" in capsys.readouterr().err
    assert_same(tmp_path / "out", manifest, config, whole)
    assert manifest.identity == whole.identity


def test_a_checkpoint_of_half_an_adapter_gives_way_to_the_one_before(
    config: FinetuneConfig, whole: Manifest, killed: Path, tmp_path: Path, capsys: Said
) -> None:
    shutil.copytree(killed, tmp_path / "out.unfinished")
    path = tmp_path / "out.unfinished/checkpoints/checkpoint-16/adapter_model.safetensors"
    kept = {name: each for name, each in load_file(path).items() if "layers.0." in name}
    save_file(kept, path, metadata={"format": "pt"})

    manifest = finetune(config.model_copy(update={"output": tmp_path / "out"}))

    said = capsys.readouterr().err
    assert "checkpoint-16 is not whole, so it is removed: adapter_model.safetensors lacks" in said
    assert_same(tmp_path / "out", manifest, config, whole)


def assert_same(output: Path, made: Manifest, config: FinetuneConfig, whole: Manifest) -> None:
    """The losses, the results and the weights are those of the training that nobody stopped."""
    assert config.output
    for series, steps in (
        ("training", [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]),
        ("validation", [0, 8, 16, 24]),
    ):
        found, wanted = losses_of(output, series), losses_of(config.output, series)
        assert [*found] == steps
        assert found == pytest.approx(wanted, abs=1e-5)
    for name in ("train_loss", "validation_loss_before", "validation_loss"):
        assert made.results[name] == pytest.approx(whole.results[name], abs=1e-5)
    assert made.results["steps"] == 24
    adapter = "adapter_model.safetensors"
    weights, wanted = load_file(output / adapter), load_file(config.output / adapter)
    assert weights.keys() == wanted.keys()
    assert all(torch.allclose(weights[name], wanted[name], atol=1e-6) for name in wanted)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def test_a_checkpoint_that_is_cut_off_gives_way_to_the_one_before(
    config: FinetuneConfig, whole: Manifest, killed: Path, tmp_path: Path, capsys: Said
) -> None:
    left = tmp_path / "out.unfinished"
    shutil.copytree(killed, left)
    cut(left / "checkpoints/checkpoint-16/adapter_model.safetensors")

    manifest = finetune(config.model_copy(update={"output": tmp_path / "out"}))

    said = capsys.readouterr().err
    assert "checkpoint-16 is not whole, so it is removed: " in said
    assert "adapter_model.safetensors is cut off or broken\n" in said
    assert "finetune: resuming from checkpoint-8\n" in said
    assert_same(tmp_path / "out", manifest, config, whole)


@pytest.mark.parametrize(
    ("file", "harm", "why"),
    [
        ("optimizer.pt", cut, "optimizer.pt is cut off or broken"),
        ("rng_state.pth", cut, "rng_state.pth is cut off or broken"),
        ("scheduler.pt", lambda path: path.write_text("garbage"), "scheduler.pt is cut off"),
        ("trainer_state.json", cut, "trainer_state.json is cut off or broken"),
        ("trainer_state.json", lambda path: path.write_text("[1]"), "is no state of a trainer"),
        (
            "trainer_state.json",
            Path.unlink,
            "trainer_state.json is missing: the checkpoint was not finished",
        ),
        ("optimizer.pt", Path.unlink, "it holds no state of the optimizer"),
        ("adapter_model.safetensors", Path.unlink, "it holds no weights"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(
    file: str, harm: Callable[[Path], None], why: str, killed: Path, tmp_path: Path, capsys: Said
) -> None:
    shutil.copytree(killed, tmp_path / "left")
    checkpoints = tmp_path / "left/checkpoints"
    harm(checkpoints / "checkpoint-16" / file)

    found = newest_checkpoint(tmp_path / "left", resume=True)

    assert found == str(checkpoints / "checkpoint-8")
    removed, *rest = capsys.readouterr().err.splitlines()
    assert removed.startswith("finetune: checkpoint-16 is not whole, so it is removed: ")
    assert why in removed
    assert rest == ["finetune: resuming from checkpoint-8"]
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-8"]


def test_the_patience_of_early_stopping_goes_on_too(
    config: FinetuneConfig, killed: Path, tmp_path: Path
) -> None:
    shutil.copytree(killed, tmp_path / "out.unfinished")
    shutil.rmtree(tmp_path / "out.unfinished/checkpoints/checkpoint-16")
    path = tmp_path / "out.unfinished/checkpoints/checkpoint-8/trainer_state.json"
    state = json.loads(path.read_text())
    counted = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    counted["early_stopping_patience_counter"] = 2
    path.write_text(json.dumps(state | {"best_metric": 0.0}))

    manifest = finetune(config.model_copy(update={"output": tmp_path / "out"}))

    assert manifest.results["steps"] == 16


def test_without_a_whole_checkpoint_it_begins_again_and_says_so(
    killed: Path, tmp_path: Path, capsys: Said
) -> None:
    shutil.copytree(killed, tmp_path / "left")
    for state in tmp_path.rglob("trainer_state.json"):
        state.write_text("")

    assert newest_checkpoint(tmp_path / "left", resume=True) is None

    assert capsys.readouterr().err.count("\n") == 3
    assert newest_checkpoint(tmp_path / "left", resume=True) is None
    assert capsys.readouterr().err == ""


def test_other_processes_than_those_that_wrote_it_are_announced(
    killed: Path, tmp_path: Path, capsys: Said
) -> None:
    shutil.copytree(killed, tmp_path / "left")
    states = tmp_path / "left/checkpoints/checkpoint-16/rng_state.pth"
    shutil.copyfile(states, states.with_name("rng_state_0.pth"))
    states.rename(states.with_name("rng_state_1.pth"))

    newest_checkpoint(tmp_path / "left", resume=True)

    assert "was written by 2 processes, and there are 1 now" in capsys.readouterr().err


def test_the_order_of_rows_follows_from_the_seed_and_the_pass_alone() -> None:
    lengths = [n % 7 + 1 for n in range(32)]

    def order(seed: int, epoch: float) -> list[int]:
        torch.rand(1)  # what else the process draws must not matter
        rows = DataLoader(lengths, batch_size=2, sampler=LengthGroupedSampler(2, lengths=lengths))
        arguments, state = SimpleNamespace(seed=seed), TrainerState(epoch=epoch)
        SameOrder().on_epoch_begin(arguments, state, None, train_dataloader=rows)
        return list(rows.sampler)

    assert order(3, 1.0) == order(3, 1.5)  # of a training that goes on in the middle of a pass
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((3, 0), (3, 1), (4, 3))}) == 3
