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
from medllm.finetune.train import base, lora_linear
from medllm.finetune.train.base import is_widened, weights_dtype
from medllm.finetune.train.lora_linear import Folded, Frozen, Joined, join_adapters

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

    narrow, frozen = run(Joined, weight.bfloat16(), down, up), run(Frozen, weight.bfloat16())

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


@pytest.mark.parametrize("is_narrow", [True, False])
@pytest.mark.parametrize("base", ["bias", "no bias", "nf4"])
def test_beside_its_layer_an_adapter_is_as_exact_as_in_peft(
    base: str, is_narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU computes, in bfloat16 under autocast, and in float32."""
    monkeypatch.setattr(lora_linear, "_way", lora_linear._way_of_gpu)
    counted = count(monkeypatch, Joined)
    kind = torch.bfloat16 if is_narrow else torch.float32
    model = beside(base, kind)
    x, layer = torch.randn(2, MANY, 64).to(kind), model.base_model.model[0]
    peft = outputs_and_gradients(layer, x, autocast=is_narrow)
    join_adapters(model)
    ours = outputs_and_gradients(layer, x, autocast=is_narrow)
    exact = outputs_and_gradients(unrounded(layer), x.float(), autocast=False)

    assert counted == [x.shape]
    assert [each.dtype for each in ours] == [each.dtype for each in peft]
    for found, other, wanted in zip(ours, peft, exact, strict=True):
        error, theirs = ((e.float() - wanted).norm() / wanted.norm() for e in (found, other))
        assert error <= max(1.2 * theirs, 1e-6)
        assert error < (0.02 if is_narrow else 1e-5)


def beside(base: str, kind: torch.dtype) -> Any:
    """A layer with an adapter in float32, the layer in a number format or of 4 bits."""
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    layer: Any = nn.Linear(64, 128, bias=base == "bias").to(kind)
    if base == "nf4":
        rounded = Linear4bit(64, 128, bias=False, compute_dtype=kind, quant_type="nf4")
        rounded.load_state_dict(layer.state_dict())
        layer = rounded.to("cpu")
        layer.support_avx512bf16_for_cpu = False  # else an evaluation repacks the weights
    model = get_peft_model(nn.Sequential(layer), LoraConfig(r=4, target_modules=["0"]))
    nn.init.normal_(model.base_model.model[0].lora_B["default"].weight, std=0.1)
    return model


def unrounded(layer: Any) -> Any:
    """The same layer, all of it in float32."""
    weight = layer.base_layer.weight
    exact = adapted(bias=layer.base_layer.bias is not None).base_model.model[0]
    exact.base_layer = nn.Linear(64, 128, bias=layer.base_layer.bias is not None)
    exact.base_layer.weight.data = lora_linear._whole(weight, torch.float32).float()
    if layer.base_layer.bias is not None:
        exact.base_layer.bias.data = layer.base_layer.bias.data.float()
    exact.lora_A, exact.lora_B = layer.lora_A, layer.lora_B
    exact.scaling = layer.scaling
    return exact


def outputs_and_gradients(layer: Any, x: torch.Tensor, *, autocast: bool) -> list[torch.Tensor]:
    """Of x, A and B."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = layer(x)
    learns = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    return [outputs.detach(), *torch.autograd.grad(outputs.float().square().sum(), learns)]


@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_model_learns_the_same_beside_its_layers(
    checkpointing: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"gradient_checkpointing": checkpointing}
    asked = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out", extra=extra)
    lora = LoraSettings(r=4)
    asked = asked.model_copy(update={"lora": lora})
    expected = compute(asked.model_copy(update={"lora": with_dropout(lora)}), tmp_path)
    monkeypatch.setattr(lora_linear, "_way", lora_linear._way_of_gpu)
    counted = count(monkeypatch, Joined)

    found = compute(asked, tmp_path)

    assert len(counted) == 28 * (1 + checkpointing)  # layers, computed again where it is asked for
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def with_dropout(lora: LoraSettings) -> LoraSettings:
    """The same adapter in PEFT's own way: a dropout that leaves out nothing."""
    return lora.model_copy(update={"lora_dropout": 1e-12})


def compute(config: FinetuneConfig, folder: Path) -> dict[str, torch.Tensor]:
    """The loss of a batch, and its gradients."""
    trainer = opened(config, folder)
    if trainer.args.gradient_checkpointing:
        trainer.model.train().gradient_checkpointing_enable()
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


def count(monkeypatch: pytest.MonkeyPatch, way: Any = Folded) -> list[torch.Size]:
    """The shapes of what is computed in one way from now on."""
    shapes: list[torch.Size] = []
    apply = way.apply

    def spy(x: torch.Tensor, *rest: Any) -> Any:
        shapes.append(x.shape)
        return apply(x, *rest)

    monkeypatch.setattr(way, "apply", spy)
    return shapes
