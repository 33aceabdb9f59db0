"""An adapter that is computed with its layer: the same results, and only where it pays."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_lean import gradients, opened
from torch import nn
from trainings import small, write_examples

from medllm.finetune.config import FinetuneConfig, LoraSettings
from medllm.finetune.train import base
from medllm.finetune.train.base import is_widened, weights_dtype
from medllm.finetune.train.lora_linear import Folded, Frozen, Narrow, join_adapters

WIDE, NARROW, MANY, FEW = 24, 16, 100, 5


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_gradients_are_those_of_the_sum(has_bias: bool) -> None:
    torch.manual_seed(0)

    def drawn(*shape: int, learns: bool = True) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, requires_grad=learns)

    weight = drawn(WIDE, NARROW, learns=False)
    bias = drawn(WIDE, learns=False) if has_bias else None

    def compute(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> Any:
        return Folded.apply(x, weight, bias, down, up, 0.5)

    assert torch.autograd.gradcheck(
        compute, (drawn(2, 3, NARROW), drawn(4, NARROW), drawn(WIDE, 4))
    )


@pytest.mark.parametrize("has_bias", [True, False])
def test_small_whole_numbers_come_out_of_bfloat16_exactly(has_bias: bool) -> None:
    torch.manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randint(-1, 2, shape).float()

    weight, bias = drawn(WIDE, NARROW), drawn(WIDE) if has_bias else None
    x, down, up = drawn(2, 9, NARROW), drawn(4, NARROW), drawn(WIDE, 4)
    gradient, none = drawn(2, 9, WIDE), torch.zeros(4, NARROW)

    def run(way: Any, weight: torch.Tensor, *adapter: torch.Tensor) -> list[torch.Tensor]:
        learns = [each.clone().requires_grad_() for each in (x, *adapter)]
        outputs = way.apply(learns[0], weight, bias, *learns[1:], *([0.5] if adapter else []))
        return [outputs.detach(), *torch.autograd.grad(outputs, learns, gradient)]

    narrow, frozen = run(Narrow, weight.bfloat16(), down, up), run(Frozen, weight.bfloat16())

    expected, plain = run(Folded, weight, down, up), run(Folded, weight, none, up)
    assert all(map(torch.equal, narrow, expected))
    assert all(map(torch.equal, frozen, plain))  # the first are outputs and the gradient of x


@pytest.mark.parametrize(
    "options",
    [{}, {"lora_dropout": 1e-9}, {"use_dora": True}, {"target_modules": ("q_proj", "v_proj")}],
)
def test_multiplying_in_bfloat16_learns_the_same(
    options: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    data = write_examples(tmp_path / "data")
    wide = small(tiny_model, data, tmp_path / "out")
    lora = LoraSettings.model_validate({"r": 4, **options})
    wide = wide.model_copy(update={"lora": lora})

    found, expected = (
        compute(wide.model_copy(update={"dtype": dtype}), tmp_path)
        for dtype in ("bfloat16", "float32")
    )

    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm() / gradient.norm()
        assert 0 < difference < 0.03, name


def test_all_but_the_large_multiplications_is_float32(tiny_model: Path, tmp_path: Path) -> None:
    asked = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    settings = LoraSettings(r=4, target_modules=("q_proj",), modules_to_save=("v_proj",))
    asked = asked.model_copy(update={"dtype": "bfloat16", "lora": settings})

    model = opened(asked, tmp_path).model

    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    narrow = [name for name, kind in kinds.items() if kind == torch.bfloat16]
    ends = ("q_proj.base_layer.weight", "v_proj.original_module.weight", "_proj.weight")
    assert set(kinds.values()) == {torch.float32, torch.bfloat16}
    assert narrow == [name for name in kinds if name.endswith(ends)]
    assert not any("lora" in name or "modules_to_save" in name for name in narrow)
    assert model.get_output_embeddings().weight.dtype == torch.float32


def test_a_processor_that_multiplies_in_bfloat16_does(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    asked = asked.model_copy(update={"dtype": "auto"})
    whole = asked.model_copy(update={"lora": None})
    rounded = asked.model_copy(update={"quantization": "nf4"})

    for able in (True, False):
        monkeypatch.setattr(base, "multiplies_bfloat16", lambda able=able: able)

        assert weights_dtype(asked, "cpu") == ("bfloat16" if able else "float32")
        assert is_widened(asked, "cpu") == able
        assert not is_widened(rounded, "cpu")
        assert weights_dtype(whole, "cpu") == "float32"


def compute(config: FinetuneConfig, folder: Path) -> dict[str, torch.Tensor]:
    """The loss of a batch, and its gradients."""
    trainer = opened(config, folder)
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return {"loss": loss.detach(), **gradients(trainer)}


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_model_computes_what_it_computed(has_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count(monkeypatch)
    model, x = adapted(bias=has_bias), torch.randn(2, MANY // 2, NARROW)
    expected = outcome(model, x)

    join_adapters(model)
    found = outcome(model, x)

    assert len(counted) == 2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, FEW),
        ({"lora_dropout": 0.1}, MANY),
        ({"use_dora": True}, MANY),
        ({"lora_bias": True}, MANY),
    ],
)
def test_what_is_not_plain_or_too_few_tokens_goes_its_own_way(
    options: dict[str, Any], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = count(monkeypatch)
    model = adapted(bias=True, **options)

    join_adapters(model)
    outcome(model, torch.randn(tokens, NARROW))

    assert not counted


def test_an_adapter_that_is_turned_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count(monkeypatch)
    model, x = adapted(bias=True), torch.randn(MANY, NARROW)
    join_adapters(model)

    with model.disable_adapter():
        off = model(x)

    assert not counted
    assert torch.equal(off, model.unload()(x))


def adapted(*, bias: bool, **options: Any) -> Any:
    """Two layers with an adapter that changes something."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(NARROW, WIDE, bias), nn.Linear(WIDE, NARROW, bias))
    model = get_peft_model(layers, LoraConfig(r=4, target_modules=["0", "1"], **options))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weights)
    return model


def outcome(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs, and the gradients of all that learns."""
    model.zero_grad()
    outputs = model(x)
    outputs.square().sum().backward()
    learnt = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    return [outputs.detach(), *learnt]


def count(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of what is computed folded from now on."""
    shapes: list[torch.Size] = []
    apply = Folded.apply

    def spy(x: torch.Tensor, *rest: Any) -> Any:
        shapes.append(x.shape)
        return apply(x, *rest)

    monkeypatch.setattr(Folded, "apply", spy)
    return shapes
