"""Training that goes wrong, ends early or is ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from medllm.artifacts.manifest import Manifest
from medllm.data.example import Example, Message, read_examples, to_json, write_jsonl
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, ConfigError
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
from medllm.finetune.verb import finetune
from medllm.measures.likelihood import score_answers
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.load import resolve_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, numbers in (("train", range(64)), ("validation", range(64, 80))):
        rows = [
            Example(f"t/{n}", "t", str(n), (Message("user", f"Is {n} even?"),), "yes" * (n % 3 + 1))
            for n in numbers
        ]
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))
    return folder


def settings(**own: object) -> TrainingSettings:
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 1}
    return TrainingSettings.model_validate({**short, "max_length": 64, **own})


def config(model: Path, data: Path, output: Path, **own: object) -> FinetuneConfig:
    lora = LoraSettings(r=4, target_modules=("q_proj", "v_proj"))
    return FinetuneConfig(
        model=str(model), data=data, output=output, lora=lora, training=settings(**own)
    )


def test_what_was_learnt_is_told(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    manifest = finetune(config(tiny_model, data, tmp_path / "out", learning_rate=1e-3))

    results = manifest.results
    course = json.loads((tmp_path / "out/course.json").read_text())
    assert [step for step, _ in course["training"]] == list(range(1, 17))
    assert [step for step, _ in course["validation"]] == [0, 4, 8, 12, 16]
    assert course["validation"][0][1] == results["validation_loss_before"]
    assert course["validation"][-1][1] == results["validation_loss"]
    assert results["validation_loss"] < results["validation_loss_before"]
    assert 0 < results["validation_token_accuracy"] <= 1
    assert results["tokens_per_second"] > 0
    assert results["total_flos"] > 0
    assert results["peak_memory_gib"] > 0.1
    assert {"loss.png", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_a_training_that_diverges_is_stopped(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    wild = config(tiny_model, data, tmp_path / "out", learning_rate=10.0, warmup_steps=0)
    # nothing bounds what follows the last norm
    wild = wild.model_copy(update={"lora": LoraSettings(r=4, modules_to_save=("lm_head",))})

    with pytest.raises(ArtifactError, match="diverged|the loss is nan") as caught:
        finetune(wild)

    assert "lower training.learning_rate" in caught.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_an_adapter_on_the_head_is_refused_with_the_remedy(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    one = config(tiny_model, data, tmp_path / "out")
    one = one.model_copy(update={"lora": LoraSettings(target_modules=("lm_head",))})

    with pytest.raises(ConfigError, match="lm_head would never be trained") as caught:
        finetune(one)
    assert "modules_to_save" in caught.value.fix


def test_stopping_early_keeps_the_best_weights(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    manifest = finetune(
        config(tiny_model, data, tmp_path / "out", learning_rate=3e-2, num_train_epochs=8,
               eval_steps=2, early_stopping_patience=1, lr_scheduler_type="constant")
    )  # fmt: skip

    course = json.loads((tmp_path / "out/course.json").read_text())
    losses = [loss for _, loss in course["validation"]]
    assert manifest.results["steps"] < 64
    assert manifest.results["validation_loss"] == pytest.approx(min(losses[1:]), rel=1e-4)


def test_sigterm_saves_first_and_the_same_command_goes_on(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    arguments = ["finetune", "--model", str(tiny_model), "--data", str(data), "--output", "out"]
    own = {"num_train_epochs": 12, "per_device_train_batch_size": 4, "logging_steps": 1,
           "max_length": 64, "save_steps": 1000, "eval_steps": 1000}  # fmt: skip
    for key, value in own.items():
        arguments += ["--set", f"finetune.training.{key}={value}"]
    command = [sys.executable, "-m", "medllm", *arguments]

    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    logs = tmp_path / "out.unfinished/logs"
    ends = time.monotonic() + 240
    while time.monotonic() < ends and first.poll() is None and not any(logs.rglob("events*")):
        time.sleep(0.2)
    time.sleep(3)
    os.kill(first.pid, signal.SIGTERM)
    _, said = first.communicate(timeout=240)

    assert first.returncode == 128 + signal.SIGTERM, said
    assert "a checkpoint is saved" in said
    assert list((tmp_path / "out.unfinished/checkpoints").glob("checkpoint-*/trainer_state.json"))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on from checkpoint-" in again.stderr
    assert Manifest.read(tmp_path / "out").results["steps"] == 192


def test_qlora_trains_on_rounded_weights_exactly_and_merges_onto_them(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    rounded = config(tiny_model, data, tmp_path / "out", learning_rate=1e-3)
    manifest = finetune(rounded.model_copy(update={"quantization": "nf4"}))

    merged = merge(
        MergeConfig(adapter=tmp_path / "out", model=str(tiny_model), output=tmp_path / "m",
                    onto="nf4")
    )  # fmt: skip

    assert manifest.results["validation_loss"] < manifest.results["validation_loss_before"]
    assert merged.results["verified"]
    # what training saw: the loss of the merged model is the one that training reports
    losses = answer_losses(tmp_path / "m", data / "validation.jsonl")
    assert losses == pytest.approx(manifest.results["validation_loss"], rel=0.01)


def test_an_evaluation_does_not_change_the_gradients_of_qlora(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    import torch

    from medllm.finetune.verb import _load_base

    model = _load_base(FinetuneConfig(quantization="nf4"), resolve_model(str(tiny_model)), "cpu")
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.01)
    ids = torch.arange(3, 35)[None]

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    with torch.no_grad():
        model.eval()(input_ids=ids)
    after = gradients()

    assert len(before) == len(after) == 56
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def answer_losses(model: Path, rows: Path) -> float:
    """The mean loss of the tokens of answers, as evaluation scores them."""
    engine = open_model(resolve_model(str(model)))
    results = score_answers(engine, list(read_examples(rows)), what="answers")
    return -sum(each.logprob for each in results) / sum(each.tokens for each in results)
