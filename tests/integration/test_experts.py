"""Mixtures of experts: which part of them is trained, and what is made of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainings import SHORT, write_examples

from medllm.data.example import read_examples
from medllm.engines.open import open_model
from medllm.errors import ConfigError
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
from medllm.finetune.precision import check_precision
from medllm.finetune.train.adapter import announce_unquantized
from medllm.finetune.verb import finetune
from medllm.measures.likelihood import score_answers
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.load import read_config, resolve_model

pytestmark = pytest.mark.filterwarnings(  # PEFT looks for patterns among modules, not parameters
    "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "prepared", 32, 8, SHORT)


def config(model: Path, data: Path, output: Path, **lora: object) -> FinetuneConfig:
    training = TrainingSettings(
        num_train_epochs=2, max_length=64, logging_steps=1, learning_rate=1e-3
    )
    own = LoraSettings.model_validate({"r": 4, **lora})
    return FinetuneConfig(
        model=str(model), data=data, output=output, dtype="float32", lora=own, training=training
    )


@pytest.mark.parametrize(
    ("lora", "reaches"),
    [
        ({}, {"self_attn", "experts", "gate"}),  # all-linear: PEFT counts the experts among them
        ({"target_modules": ATTENTION}, {"self_attn"}),
        (
            {"target_modules": ATTENTION, "target_parameters": ("experts.down_proj",)},
            {"self_attn", "experts"},
        ),
    ],
)
def test_what_is_trained_of_a_mixture_is_told_and_merged(
    lora: dict[str, object],
    reaches: set[str],
    mixtral: Path,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    manifest = finetune(config(mixtral, data, tmp_path / "a", **lora))

    said = capfd.readouterr().err
    results = manifest.results
    assert results["validation_loss"] < results["validation_loss_before"]
    course = json.loads((tmp_path / "a/course.json").read_text())
    assert course["validation"][0][1] == results["validation_loss_before"]
    assert course["validation"][-1][1] == results["validation_loss"]
    stored = load_file(tmp_path / "a/adapter_model.safetensors")
    parts = {
        part for name in stored for part in ("self_attn", "experts", "gate") if f".{part}." in name
    }
    assert parts == reaches
    assert ("the experts of this model are not trained" in said) == ("experts" not in reaches)
    merged = merge(MergeConfig(adapter=tmp_path / "a", output=tmp_path / "m"))
    assert merged.results["verified"]
    # the router's balance loss is no part of it
    losses = answer_losses(tmp_path / "m", data / "validation.jsonl")
    assert losses == pytest.approx(results["validation_loss"], rel=1e-4)
    assert ("through PEFT" in capfd.readouterr().err) == ("experts" in reaches)
    before, after = (load_file(f / "model.safetensors") for f in (mixtral, tmp_path / "m"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".experts." in name for name in changed) == ("experts" in reaches)


def test_a_whole_mixture_is_trained_and_keeps_its_configuration(
    mixtral: Path, data: Path, tmp_path: Path
) -> None:
    whole = config(mixtral, data, tmp_path / "out").model_copy(update={"lora": None})
    manifest = finetune(whole)

    assert manifest.results["validation_loss"] < manifest.results["validation_loss_before"]
    before, after = read_config(mixtral), read_config(tmp_path / "out")
    assert after["output_router_logits"] == before["output_router_logits"]
    first, last = (load_file(f / "model.safetensors") for f in (mixtral, tmp_path / "out"))
    assert first.keys() == last.keys()
    name = "model.layers.0.block_sparse_moe.gate.weight"
    assert not torch.equal(first[name], last[name])


def answer_losses(model: Path, rows: Path) -> float:
    """The mean loss of the tokens of answers, as evaluation scores them."""
    engine = open_model(resolve_model(str(model)))
    results = score_answers(engine, list(read_examples(rows)), what="answers")
    return -sum(each.logprob for each in results) / sum(each.tokens for each in results)


def test_options_that_experts_do_not_take_are_refused(
    mixtral: Path, data: Path, tmp_path: Path
) -> None:
    for option, value in (("lora_dropout", 0.1), ("use_dora", True)):
        with pytest.raises(ConfigError, match=f"finetune.lora.{option}") as caught:
            finetune(config(mixtral, data, tmp_path / "out", **{option: value}))
        assert "q_proj" in caught.value.fix


@pytest.mark.parametrize(
    "lora",
    [
        {"target_parameters": ("experts.dwon_proj",)},
        {"exclude_modules": ("vision",)},
        {"target_modules": ("c_attn",)},
    ],
)
def test_a_name_that_the_model_has_not_is_told(
    lora: dict[str, object], mixtral: Path, data: Path, tmp_path: Path
) -> None:
    ((option, (name,)),) = lora.items()
    with pytest.raises(ConfigError, match=rf"finetune.lora.{option}: .*{name}"):
        finetune(config(mixtral, data, tmp_path / "out", **lora))


def test_the_share_of_experts_that_stays_in_16_bits_is_told(
    mixtral: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    announce_unquantized(resolve_model(str(tiny_model)), bits=16)
    assert "experts" not in capfd.readouterr().err

    for bits in (16, 32):
        announce_unquantized(resolve_model(str(mixtral)), bits)
        gib = 2 * 8 * (3 * 256 * 512) * bits / 8 / 2**30
        assert f"{gib:.3g} GiB of them stay in {bits} bits" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "device", "refused"),
    [("float16", "cpu", True), ("auto", "mps", True), ("auto", "cpu", False),
     ("bfloat16", "mps", False), ("float32", "cpu", False)],
)  # fmt: skip
def test_a_gemma_3_is_not_trained_in_float16(
    dtype: str, device: str, refused: bool, gemma: Path, tiny_model: Path
) -> None:
    own = FinetuneConfig.model_validate_json(json.dumps({"dtype": dtype}))
    check_precision(own, resolve_model(str(tiny_model)), device)

    if not refused:
        check_precision(own, resolve_model(str(gemma)), device)
        return
    with pytest.raises(ConfigError, match="cannot be trained in float16") as caught:
        check_precision(own, resolve_model(str(gemma)), device)
    assert "bfloat16" in caught.value.fix
