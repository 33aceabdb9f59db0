"""A training that was stopped resumes exactly; a checkpoint that is broken is left out."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from trainings import losses_of, small, write_examples
from transformers import TrainerState
from transformers.trainer_pt_utils import LengthGroupedSampler
from typed import COMMAND, QUIET, Typed
from unchanged import unchanged

from medllm.artifacts.manifest import NAME, Manifest
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.train.checkpoints import find_damage, newest_checkpoint
from medllm.finetune.train.resumption import SameOrder
from medllm.finetune.verb import finetune

Said = pytest.CaptureFixture[str]


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


# Stopped from outside, in processes of their own


@dataclass(frozen=True)
class Stopped:
    """A training that a signal ended."""

    code: int
    said: list[str]
    """The lines of its stderr."""
    left: Path
    """What is left of it."""


@pytest.fixture(scope="module")
def recipe(config: FinetuneConfig) -> Path:
    """The same training, for the command line."""
    assert config.output
    section = config.model_dump(mode="json", exclude={"output"}, exclude_defaults=True)
    file = config.output.with_name("recipe.yaml")
    file.write_text(json.dumps({"finetune": section}))
    return file


def stop(recipe: Path, output: Path, checkpoint: int, number: signal.Signals) -> Stopped:
    """What a signal leaves, sent once a checkpoint is whole."""
    left = output.with_name(f"{output.name}.unfinished")
    with subprocess.Popen(
        [*COMMAND, "finetune", "--config", recipe, "--output", output],
        env=os.environ | QUIET,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, which tests may be, ignore Ctrl-C and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        ends = time.monotonic() + 240
        while time.monotonic() < ends and find_damage(
            left / f"checkpoints/checkpoint-{checkpoint}"
        ):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
    return Stopped(process.returncode, said.splitlines(), left)


@pytest.fixture(scope="module")
def killed_training(recipe: Path) -> Iterator[Stopped]:
    """After its second checkpoint."""
    stopped = stop(recipe, recipe.with_name("killed"), 16, signal.SIGKILL)
    with unchanged(stopped.left):
        yield stopped


@pytest.fixture(scope="module")
def killed(killed_training: Stopped) -> Path:
    return killed_training.left


@pytest.fixture(scope="module")
def interrupted(recipe: Path, killed: Path) -> Stopped:
    """Resumed from the first checkpoint of the killed one, and ended with Ctrl-C."""
    output = recipe.parent / "interrupted/out"
    shutil.copytree(killed, output.with_name("out.unfinished"))
    shutil.rmtree(output.with_name("out.unfinished") / "checkpoints/checkpoint-16")
    return stop(recipe, output, 16, signal.SIGINT)


@pytest.fixture(scope="module")
def terminated(recipe: Path) -> Stopped:
    """Between its checkpoints."""
    return stop(recipe, recipe.with_name("terminated"), 8, signal.SIGTERM)


def test_a_dry_run_that_sigterm_ends_leaves_no_folder(recipe: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with subprocess.Popen(
        [*COMMAND, "finetune", "--config", recipe, "--output", place / "out", "--dry-run"],
        env=os.environ | QUIET,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ends = time.monotonic() + 240
        while time.monotonic() < ends and not names(place):  # of the profiling run
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=240)

    assert process.returncode == 128 + signal.SIGTERM
    assert names(place) == set()


def check_unfinished(left: Path) -> None:
    """There are checkpoints, and no output."""
    assert {"request.json", "checkpoints"} <= names(left)
    assert NAME not in names(left)
    assert left.name.removesuffix(".unfinished") not in names(left.parent)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_killed_training_leaves_its_checkpoints_and_no_output(killed_training: Stopped) -> None:
    assert killed_training.code == -signal.SIGKILL
    check_unfinished(killed_training.left)


def test_ctrl_c_ends_with_130_and_one_line(interrupted: Stopped) -> None:
    assert interrupted.code == 130
    assert "Traceback" not in " ".join(interrupted.said)
    assert interrupted.said[-1] == "interrupted; run the same command again to resume"
    assert "finetune: resuming from checkpoint-8" in interrupted.said
    check_unfinished(interrupted.left)


def test_the_same_command_then_finishes(
    config: FinetuneConfig,
    whole: Manifest,
    recipe: Path,
    interrupted: Stopped,
    tmp_path: Path,
    typed: Typed,
) -> None:
    room = tmp_path / "room"
    shutil.copytree(interrupted.left, room / "out.unfinished")

    ended = typed("finetune", "--config", recipe, "--output", room / "out")

    assert ended.returncode == 0, ended.stderr
    assert "finetune: resuming from checkpoint-16\n" in ended.stderr
    assert_same(room / "out", Manifest.read(room / "out"), config, whole)
    assert names(room) == {"out"}
    assert not names(room / "out") & {"checkpoints", "request.json", "lock"}
    assert typed("verify", room / "out").returncode == 0


def test_sigterm_saves_first_and_the_training_resumes_from_there(
    config: FinetuneConfig, whole: Manifest, terminated: Stopped, tmp_path: Path, capsys: Said
) -> None:
    assert terminated.code == 128 + signal.SIGTERM
    assert "a checkpoint is saved" in " ".join(terminated.said)
    check_unfinished(terminated.left)
    checkpoints = {path.name for path in terminated.left.glob("checkpoints/checkpoint-*")}
    (saved,) = checkpoints - {"checkpoint-8", "checkpoint-16"}
    shutil.copytree(terminated.left, tmp_path / "out.unfinished")

    manifest = finetune(config.model_copy(update={"output": tmp_path / "out"}))

    assert f"finetune: resuming from {saved}\n" in capsys.readouterr().err
    assert_same(tmp_path / "out", manifest, config, whole, stopped=int(saved.split("-")[1]))


def test_a_killed_training_resumes_exactly(
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


def assert_same(
    output: Path, made: Manifest, config: FinetuneConfig, whole: Manifest, stopped: int = 9
) -> None:
    """The losses, the results and the weights are those of the training that nobody stopped.

    A step that is `stopped` after is logged, too, before its checkpoint is written.
    """
    assert config.output
    for series, steps in (
        ("training", [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]),
        ("validation", [0, 8, 16, 24]),
    ):
        found, wanted = losses_of(output, series), losses_of(config.output, series)
        assert [*wanted] == steps
        if series == "training" and stopped not in wanted:
            before = max(step for step in steps if step < stopped)
            after = min(step for step in steps if step > stopped)
            first = found.pop(stopped) * (stopped - before)
            found[after] = (first + found[after] * (after - stopped)) / (after - before)
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
        return list(rows.batch_sampler.sampler)

    assert order(3, 1.0) == order(3, 1.5)  # of a training that goes on in the middle of a pass
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((3, 0), (3, 1), (4, 3))}) == 3


def test_steps_hold_rows_of_like_length_in_no_order_of_length() -> None:
    lengths = [n % 100 + 1 for n in range(1600)]
    rows = DataLoader(lengths, batch_size=4, sampler=LengthGroupedSampler(4, lengths=lengths))
    arguments, state = SimpleNamespace(seed=0), TrainerState(epoch=0)
    for _ in range(2):  # of the second pass the sampler is ours already
        SameOrder().on_epoch_begin(arguments, state, None, train_dataloader=rows)
        steps = [[lengths[i] for i in step] for step in rows.batch_sampler]

        assert sorted(chain(*steps)) == sorted(lengths)
        assert max(map(max, steps)) in steps[0]
        assert sum(max(step) - min(step) for step in steps) / len(steps) < 5
        falls = sum(max(one) > max(after) for one, after in pairwise(steps))
        assert 0.35 < falls / len(steps) < 0.65  # all but always in the trainer's own order
