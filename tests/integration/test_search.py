"""A search for settings: what it tries, keeps and says."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from safetensors.torch import load_file
from trainings import write_examples
from typed import COMMAND, Typed

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.errors import ConfigError, SetupError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.search import study
from medllm.finetune.verb import finetune
from medllm.recipe import load_recipe, wire

BAD, GOOD = 1e-9, 1e-2
TRAINING = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "max_length": 64,
            "logging_steps": 1, "warmup_steps": 0.0, "report_to": ()}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "prepared", 64, 16, ("yes", "no"))


Searching = Callable[..., FinetuneConfig]


@pytest.fixture
def searching(tiny_model: Path, data: Path, tmp_path: Path) -> Searching:
    """The section of a search."""

    def config(search: dict[str, Any], **own: Any) -> FinetuneConfig:
        section = {
            "model": str(tiny_model), "data": str(data), "output": str(tmp_path / "out"),
            "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]}, "training": TRAINING,
            "search": search, **own,
        }  # fmt: skip
        return FinetuneConfig.model_validate_json(json.dumps(section))

    return config


def tried(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "search.json").read_text())["trials"]
    return found


def test_the_better_settings_are_found_kept_and_written_down(
    searching: Searching, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rates = {"training.learning_rate": [BAD, GOOD], "lora.r": {"low": 2, "high": 3}}
    manifest = finetune(searching({"trials": 5, "parameters": rates}))

    out, trials = tmp_path / "out", tried(tmp_path / "out")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = min(complete, key=lambda trial: trial["value"])
    assert {trial["parameters"]["training.learning_rate"] for trial in complete} == {BAD, GOOD}
    assert [trial["number"] for trial in trials] == [1, 2, 3, 4, 5]
    assert all("as trial" in trial["state"] for trial in trials if trial not in complete)
    assert best["parameters"]["training.learning_rate"] == GOOD
    assert manifest.results["validation_loss"] == best["value"]
    assert manifest.results["search"]["parameters"] == best["parameters"]
    rank = json.loads((out / "adapter_config.json").read_text())["r"]
    assert rank == best["parameters"]["lora.r"]
    assert not (out / "trials").exists()
    assert verify_artifact(out).manifest == manifest
    assert "Trials of the search" in (out / "report.html").read_text()
    said = capfd.readouterr().err
    assert "finetune: trial 1 of 5: learning_rate 1e-09, r 2: validation loss " in said
    assert said.count("finetune: trial ") == 5
    assert "optuna" not in said.lower()

    again = wire(load_recipe(str(out / "best.yaml")), "finetune")
    assert again.recipe == "out-best", "not the recipe that searched"
    alone = finetune(again.model_copy(update={"output": tmp_path / "alone"}))

    assert alone.results["validation_loss"] == best["value"]
    weights = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "alone")
    )
    first, second = weights
    assert all((first[name] == second[name]).all() for name in first)


def test_a_hopeless_trial_is_ended_early(searching: Searching, tmp_path: Path) -> None:
    rates = {"training.learning_rate": {"low": BAD, "high": GOOD, "log": True}}
    finetune(searching({"trials": 4, "startup_trials": 1, "parameters": rates}, seed=1))

    trials = tried(tmp_path / "out")
    states = [trial["state"] for trial in trials]
    assert "pruned" in states
    best = min(trial["value"] for trial in trials if trial["state"] == "complete")
    for trial in trials:
        if trial["state"] == "pruned":
            assert trial["value"] is None
            assert len(trial["evaluations"]) < 4
            assert trial["evaluations"][-1] > best


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_a_trial_that_diverges_does_not_end_the_search(
    searching: Searching, tmp_path: Path
) -> None:
    rates = {"training.learning_rate": [10.0, 1e-3]}
    before = signal.getsignal(signal.SIGTERM)
    # nothing bounds what follows the last norm
    lora = {"r": 4, "modules_to_save": ["lm_head"]}
    finetune(searching({"trials": 3, "parameters": rates}, lora=lora, seed=1))

    trials = tried(tmp_path / "out")
    ended = {(each["parameters"]["training.learning_rate"], each["state"]) for each in trials}
    assert {(10.0, "diverged"), (1e-3, "complete")} <= ended
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_search_without_validation_rows_is_refused(
    searching: Searching, data: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "train.jsonl").write_bytes((data / "train.jsonl").read_bytes())

    with pytest.raises(ConfigError, match="no validation rows"):
        finetune(searching({"parameters": {"lora.r": [4, 8]}}, data=str(alone)))


def test_a_value_that_the_trainer_refuses_is_known_before_the_first_trial(
    searching: Searching, tmp_path: Path
) -> None:
    for name, values in (("extra.optm", ["sgd"]), ("lr_scheduler_type", ["cosine", "cosin"])):
        with pytest.raises(ConfigError, match="optm|cosin"):
            finetune(searching({"parameters": {f"training.{name}": values}}))

        assert not (tmp_path / "out.unfinished").exists()


def test_without_optuna_the_remedy_is_said(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)

    with pytest.raises(SetupError) as caught:
        finetune(searching({"parameters": {"lora.r": [4, 8]}}))

    assert caught.value.fix == "pip install 'medllm[search]'"


def test_a_killed_search_goes_on_where_it_was(
    searching: Searching, tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"training.learning_rate": {"low": 1e-5, "high": GOOD, "log": True}}
    config = searching({"trials": 3, "startup_trials": 1, "parameters": rates})
    section = config.model_dump(mode="json", exclude={"output"}, exclude_defaults=True)
    (tmp_path / "killed.yaml").write_text(json.dumps({"finetune": section}))
    arguments = ("finetune", "--config", "killed.yaml", "--output", "o")
    monkeypatch.chdir(tmp_path)

    first = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    assert first.stderr
    said = iter(first.stderr.readline, "")
    assert any("trial 1 of 3" in line for line in said)
    while not (tmp_path / "o.unfinished/trials/2").is_dir():
        assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    before = trials_of(tmp_path / "o.unfinished")
    again = typed(*arguments)

    assert again.returncode == 0, again.stderr
    assert "trial 1 of 3" not in again.stderr
    after = trials_of(tmp_path / "o")
    assert after[0].datetime_complete == before[0].datetime_complete is not None
    assert [trial.state.name for trial in after].count("FAIL") == 1
    assert after[1].params == after[2].params  # what was killed is tried again
    whole = finetune(config)
    drawn = [trial["parameters"] for trial in tried(tmp_path / "out")]
    assert drawn == [trial["parameters"] for trial in tried(tmp_path / "o")]
    assert whole.identity == Manifest.read(tmp_path / "o").identity


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials in the folder of a search; its database is closed again."""
    database = RDBStorage(f"sqlite:///{folder / 'search.sqlite3'}")
    trials = optuna.load_study(study_name=None, storage=database).trials
    database.remove_session()
    database.engine.dispose()
    return trials
