"""One training in two processes makes what one process makes, and once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file
from trainings import losses_of, write_examples

from medllm.artifacts.manifest import Manifest
from medllm.cli.main import run_command
from medllm.finetune.verb import finetune
from medllm.recipe import SHIPPED, find_recipe, load_recipe, wire

LAUNCHES = sorted((SHIPPED / "finetune/accelerate").glob("*.yaml"))
RECIPE = """
model: {model}
finetune:
  data: {data}
  dtype: float32
  lora: {{r: 4, target_modules: [q_proj, v_proj]}}
  training:
    num_train_epochs: 4
    per_device_train_batch_size: 4
    learning_rate: 1e-3
    max_length: 64
    logging_steps: 1
    eval_steps: 8
    save_steps: 5
    extra:
      train_sampling_strategy: random   # lengths are grouped within a device's batches
"""


@pytest.fixture(scope="module")
def recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.format(model=tiny_model, data=write_examples(folder / "data")))
    return file


def launch(recipe: Path, *arguments: str) -> subprocess.Popen[str]:
    """`medllm finetune` in two processes on the CPU, with the file for accelerate that ships."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
                str(find_recipe("accelerate/ddp")), "--num_processes=2",
                "--main_process_port=0"]  # fmt: skip
    command = ["-m", "medllm", "finetune", "--config", str(recipe), "--output=out", *arguments]
    return subprocess.Popen(
        [*launcher, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=240)


def test_two_processes_make_what_one_makes(recipe: Path, capsys: pytest.CaptureFixture) -> None:
    output, checkpoints = Path("out"), Path("out.unfinished/checkpoints")
    first = launch(recipe)
    ends = time.monotonic() + 240
    while time.monotonic() < ends and not any(checkpoints.glob("*/trainer_state.json")):
        assert first.poll() is None, end(first)
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGTERM)
    _, said = end(first)
    assert first.returncode != 0
    assert said.count("finetune: a checkpoint is saved; the same command resumes from it") == 1
    assert not output.exists()

    second = launch(recipe)
    shown, said = end(second)
    assert second.returncode == 0, said
    assert said.count("finetune: resuming from checkpoint-") == 1
    assert shown.count("validation loss") == 1
    third = launch(recipe)
    _, said = end(third)
    assert third.returncode == 0, said
    assert said.count("/out is up to date") == 1

    assert [path.name for path in Path.cwd().iterdir()] == ["out"]
    assert run_command(["verify", "out"]) == 0
    manifest = Manifest.read(output)
    double = ("finetune.training.per_device_train_batch_size=8",)
    config = wire(load_recipe(str(recipe), double), "finetune")
    alone = finetune(config.model_copy(update={"output": Path("alone")}))
    assert (manifest.results["processes"], alone.results["processes"]) == (2, 1)
    assert manifest.results["steps"] == alone.results["steps"] == 24
    for series in ("training", "validation"):
        found, wanted = losses_of(output, series), losses_of(Path("alone"), series)
        assert found == pytest.approx(wanted, abs=1e-5)
    assert len(losses_of(output)) == 24
    found, wanted = (load_file(f / "adapter_model.safetensors") for f in (output, Path("alone")))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("finetune.training.learning_rte=1", "unknown key; did you mean 'learning_rate'?"),
        ("finetune.training.extra={nonsense: 1}", "trl's SFTConfig has no option 'nonsense'"),
    ],
)
def test_an_error_is_said_once(setting: str, message: str, recipe: Path) -> None:
    process = launch(recipe, "--set", setting)

    _, said = end(process)

    assert process.returncode != 0
    assert said.count(message) == said.count("error: ") == 1
    assert list(Path.cwd().iterdir()) == []


def test_other_commands_are_refused(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)

    code = run_command(["prepare", "--dataset", "synthetic_radiology", "--output", "prepared"])

    assert code == 2
    assert "prepare runs in one process, not in 2" in capsys.readouterr().err


# The files for accelerate


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_accelerate_knows_every_key_of_its_files(path: Path) -> None:
    parser = launch_command_parser()
    arguments = parser.parse_args(["--config_file", str(path), "--num_processes=2", "x.py"])

    launched, read, _ = _validate_launch_command(arguments)

    document = yaml.safe_load(path.read_text())
    known = {action.dest for action in parser._actions}
    for section in ("fsdp_config", "deepspeed_config"):
        assert document.get(section, {}).keys() <= known
        assert all(
            getattr(launched, key) == document[section][key] for key in document.get(section, {})
        )
    assert read.distributed_type.value == document["distributed_type"]
    assert (launched.multi_gpu, launched.use_fsdp, launched.use_deepspeed) == tuple(
        document["distributed_type"] == kind for kind in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    )
    assert "untested" in path.read_text().splitlines()[0]


def test_the_files_for_accelerate_are_found_by_name_and_are_no_recipes(capsys) -> None:
    assert [path.stem for path in LAUNCHES] == ["ddp", "fsdp2", "zero2", "zero3"]
    assert run_command(["recipes", "copy", "accelerate/fsdp2"]) == 0
    assert Path("fsdp2.yaml").read_text() == LAUNCHES[1].read_text()
    assert (
        "accelerate launch --config_file fsdp2.yaml -m medllm finetune" in capsys.readouterr().out
    )
    assert run_command(["recipes", "list"]) == 0
    assert "fsdp2 " not in capsys.readouterr().out
