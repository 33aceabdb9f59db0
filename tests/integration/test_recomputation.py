"""What of a step is kept: an estimate from shapes, held against what layers really keep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_varlen import class_of, on_gpu, opened, small_config
from trainings import small, write_examples

from medllm.finetune.activations import Need, Recomputation
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.material import Material
from medllm.finetune.train import lora_linear
from medllm.finetune.train.lora_linear import join_adapters
from medllm.finetune.train.trainer import open_trainer
from medllm.finetune.verb import open_inputs

TOKENS = 96


@pytest.mark.parametrize("name", ["Mistral", "Qwen3", "Gemma3Text"])
def test_a_layer_keeps_what_was_estimated_or_less(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_linear, "_way", lora_linear._way_of_gpu)
    few, many = (
        kept_bytes(name, 6, tokens) - kept_bytes(name, 2, tokens) for tokens in (TOKENS, 2 * TOKENS)
    )
    need = Need.of(class_of(name), wide(name, 6), r=8, is_nf4=False)

    assert need
    assert 0.7 * need.kept < (many - few) / (4 * TOKENS) <= need.kept  # of a token in a layer
    assert need.layers == 6
    assert need.hidden == 2 * 256


def wide(name: str, depth: int) -> Any:
    """Proportions of real models, small."""
    return small_config(name, num_hidden_layers=depth, hidden_size=256, intermediate_size=768,
                        num_attention_heads=8, num_key_value_heads=2, head_dim=32)  # fmt: skip


def kept_bytes(name: str, depth: int, tokens: int) -> int:
    """What a forward pass in bfloat16 keeps for the backward pass, without the weights."""
    torch.manual_seed(0)
    model = class_of(name)(wide(name, depth)).bfloat16()
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    join_adapters(adapted)
    weights = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        outputs = adapted(input_ids=torch.ones(1, tokens).long(), use_cache=False)
    assert outputs.logits.requires_grad
    return sum(kept.values())


def test_weights_and_optimizer_are_counted() -> None:
    whole, rounded = (
        Need.of(class_of("Qwen3"), wide("Qwen3", 2), r=8, is_nf4=is_nf4) for is_nf4 in (False, True)
    )
    model = class_of("Qwen3")(wide("Qwen3", 2))
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    stored = sum(p.numel() for p in adapted.parameters() if not p.requires_grad)

    assert whole
    assert rounded
    assert whole.standing == pytest.approx(2 * stored + 18 * trained)
    assert 0.25 * 2 * stored < rounded.standing - 18 * trained < 0.6 * 2 * stored


def test_models_of_another_make_are_not_estimated() -> None:
    assert Need.of(class_of("GptOss"), small_config("GptOss"), r=8, is_nf4=False) is None
    assert Need.of(class_of("GPT2"), small_config("GPT2"), r=8, is_nf4=False) is None


@pytest.mark.parametrize(
    ("free_gib", "every"), [(80, 0), (65, 8), (60, 4), (55, 3), (50, 2), (40, 1), (5, 1)]
)
def test_the_least_is_computed_again_that_fits(free_gib: float, every: int) -> None:
    need = Need(layers=32, standing=16 * 2**30, kept=190e3, hidden=8192)

    chosen = Recomputation.choose(need, 8192, free_gib)

    assert chosen.every == every
    assert chosen.estimated_gib == pytest.approx(need.gib(8192, every), abs=0.1)
    assert str(chosen).startswith("activations are ")
    assert f"of {free_gib}" in str(chosen)
    assert ("it may not fit" in str(chosen)) is (free_gib == 5)


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> FinetuneConfig:
    """A step on packed rows."""
    data = write_examples(tmp_path / "data")
    own = {"packing": True, "max_length": 128, "max_steps": 1}
    made = small(tiny_model, data, tmp_path / "out", **own)
    return made.model_copy(update={"dtype": "bfloat16"})


def test_a_gpu_with_room_keeps_all(config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, 80 << 30))
    inputs = open_inputs(config)

    def read(**own: Any) -> Recomputation | None:
        return Material.read(inputs, config.model_copy(update=own), "cuda").recomputation

    free = 2 << 30
    kept = read()
    assert kept
    assert kept.every == 0
    free = 1 << 30
    again = read()
    assert again
    assert again.every == 1
    dropping = config.lora.model_copy(update={"lora_dropout": 0.1}) if config.lora else None
    assert str(read(lora=dropping)) == "activations are computed again"
    assert str(read(lora=None)) == "activations are computed again"
    said = config.training.model_copy(update={"extra": {"gradient_checkpointing": True}})
    assert read(training=said) is None
    assert Material.read(inputs, config, "cpu").recomputation is None


@pytest.mark.parametrize(("every", "flags"), [(0, "0000"), (1, "1111"), (2, "1010"), (3, "1001")])
def test_layers_are_computed_again_as_chosen(
    every: int, flags: str, config: FinetuneConfig, tmp_path: Path
) -> None:
    asked = config.model_copy(update={"dtype": "float32"})
    material = Material.read(open_inputs(asked), asked, "cpu")
    chosen = replace(material, recomputation=Recomputation(every))

    trainer = open_trainer(asked, chosen, tmp_path, "cpu")
    loss = trainer.train().training_loss

    layers = trainer.model.get_decoder().layers
    assert "".join(str(int(layer.gradient_checkpointing)) for layer in layers) == flags
    plain = opened(asked, tmp_path, "sdpa", drawn=False)
    assert loss == pytest.approx(plain.train().training_loss, rel=1e-6)
