"""Training on a GPU: as on a processor, resumed, QLoRA merged onto what it saw, with images."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from arms import TEXT, Device, LogProbs, distance, expected_on_cpu, on_cpu
from peft import PeftModel
from seeing import write_image_rows, write_seeing
from trainings import losses_of, small, write_examples
from transformers import AutoModelForImageTextToText, Trainer

from medllm.artifacts.manifest import Manifest
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import Limit
from medllm.finetune.rows.images import VisionRows
from medllm.finetune.train.base import load_base
from medllm.finetune.verb import finetune
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.images import Vision
from medllm.models.load import load_tokenizer, resolve_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
    ),
]


@dataclass(frozen=True)
class Pair:
    """The adapters of the same training on both arms."""

    device: Path
    cpu: Path


@pytest.fixture(scope="module")
def data(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("rows") / "data")


@pytest.fixture(scope="module")
def in_float32(tiny_model: Path, data: Path) -> Pair:
    """12 steps in float32, in which both arms can be compared exactly."""
    home = data.parent
    config = small(tiny_model, data, home / "device", packing=False, learning_rate=3e-3)
    section = config.model_dump(mode="json", exclude={"output"}, exclude_defaults=True)
    (home / "recipe.yaml").write_text(json.dumps({"finetune": section}))
    command = ["finetune", "--config", str(home / "recipe.yaml"), "--output", str(home / "cpu")]
    with on_cpu(command) as wait:
        finetune(config)
        wait()
    return Pair(home / "device", home / "cpu")


@pytest.mark.parametrize("series", ["training", "validation"])
def test_in_float32_each_step_has_the_loss_that_it_has_on_a_processor(
    series: str, in_float32: Pair
) -> None:
    found, expected = (losses_of(each, series) for each in (in_float32.device, in_float32.cpu))

    assert min(expected.values()) < 0.9 * max(expected.values())
    # only the order of sums differs, at each of 12 steps of which one follows from the other
    assert found == pytest.approx(expected, rel=2e-3)


def test_a_training_that_was_stopped_resumes(
    device: Device,
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    often = {"max_steps": 12, "eval_steps": 4, "save_steps": 4}
    config = as_users(small(tiny_model, data, tmp_path / "whole", **often), device)
    whole = finetune(config)
    save = Trainer._save_checkpoint

    def save_and_stop(self: Trainer, *arguments: object) -> None:
        save(self, *arguments)
        if self.state.global_step == 8:
            raise KeyboardInterrupt  # as Ctrl-C does

    config = config.model_copy(update={"output": tmp_path / "resumed"})
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_save_checkpoint", save_and_stop)
        finetune(config)
    resumed = finetune(config)

    assert "finetune: resuming from checkpoint-8\n" in capsys.readouterr().err
    assert resumed.results["steps"] == whole.results["steps"] == 12
    # a GPU adds in another order in each run, in 16 bits; a processor does not
    limit = 5e-3 if device.is_gpu else 1e-5
    found, expected = (losses_of(tmp_path / name) for name in ("resumed", "whole"))
    assert found == pytest.approx(expected, rel=limit)
    for name in ("train_loss", "validation_loss"):
        assert resumed.results[name] == pytest.approx(whole.results[name], rel=limit)


def as_users(config: FinetuneConfig, device: Device, **own: object) -> FinetuneConfig:
    """The same training, computed in what the device computes in."""
    return config.model_copy(update={"dtype": device.dtype, **own})


def test_a_qlora_adapter_is_merged_onto_what_training_saw(
    device: Device, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    config = small(tiny_model, data, tmp_path / "adapter", learning_rate=3e-3, max_steps=12)
    config = as_users(config, device, quantization="nf4")
    trained = finetune(config)

    for onto in ("nf4", "base"):
        merge(
            MergeConfig(
                adapter=tmp_path / "adapter",
                model=str(tiny_model),
                output=tmp_path / onto,
                onto=onto,  # type: ignore[arg-type]
            )
        )

    assert trained.results["validation_loss"] < 0.9 * trained.results["validation_loss_before"]
    assert Manifest.read(tmp_path / "nf4").results["verified"]
    seen = seen_by_training(config, tiny_model, device)
    exact, plain = (distance(expected_on_cpu(tmp_path / onto), seen) for onto in ("nf4", "base"))
    # what is left is the rounding of 16 bits; merged onto the base there is that of 4 bits, too
    assert exact < 0.02
    assert exact < plain / 2


def seen_by_training(config: FinetuneConfig, model: Path, device: Device) -> LogProbs:
    """What the quantized base with the adapter expects, computed as in training."""
    assert config.output
    base = load_base(config, resolve_model(str(model)), device.name)
    tuned = PeftModel.from_pretrained(base, str(config.output)).eval()
    ids = load_tokenizer(str(model))(TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = tuned(input_ids=ids.to(tuned.device)).logits[0].float()
        expected: LogProbs = torch.log_softmax(logits, dim=-1).cpu().numpy()
    assert np.isfinite(expected).all()
    return expected


def test_what_only_an_image_tells_is_learnt_and_merged(
    device: Device, tiny_model: Path, tmp_path: Path
) -> None:
    model = write_seeing(tiny_model, tmp_path / "gemma")
    (tmp_path / "rows").mkdir()
    rows = write_image_rows(tmp_path / "rows")
    own = {"num_train_epochs": 6, "learning_rate": 1e-2, "eval_steps": 0.5}
    config = small(model, rows, tmp_path / "adapter", **own)
    assert config.lora
    every = config.lora.model_copy(update={"r": 8, "target_modules": "all-linear"})
    trained = finetune(as_users(config, device, lora=every))

    merged = merge(MergeConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))

    assert trained.results["rows"]["images"] == 64
    # half of the answers could be guessed without the images: 0.69 for each first token
    assert trained.results["validation_loss"] < 0.1
    assert merged.results["verified"]
    losses = {name: loss_of(tmp_path / "merged", rows, name) for name in (device.name, "cpu")}
    assert losses[device.name] == pytest.approx(losses["cpu"], abs=1e-3)
    assert losses["cpu"] < 0.1
    assert loss_of(tmp_path / "merged", rows, device.name, sign=-1) > 1  # the negative images


def loss_of(model: Path, rows: Path, place: str, sign: int = 1) -> float:
    """The mean loss of the validation rows, in float32."""
    images = VisionRows(
        Vision.open(resolve_model(str(model)), load_tokenizer(str(model)), "finetune")
    )
    found, _ = images.load_rows(rows / "validation.jsonl", Limit(64))
    batch = images.collate(found.to_list())
    batch["pixel_values"] = sign * batch["pixel_values"]
    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).to(place)
    with torch.inference_mode():
        return float(loaded.eval()(**{name: each.to(place) for name, each in batch.items()}).loss)
