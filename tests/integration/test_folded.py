"""An adapter that is computed with its layer: the same results, and only where it pays."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from medllm.finetune import folded
from medllm.finetune.folded import Folded, fold_adapters

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
def test_a_model_computes_what_it_computed(has_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count(monkeypatch)
    model, x = adapted(bias=has_bias), torch.randn(2, MANY // 2, NARROW)
    expected = outcome(model, x)

    fold_adapters(model)
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

    fold_adapters(model)
    outcome(model, torch.randn(tokens, NARROW))

    assert not counted


def test_an_adapter_that_is_turned_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count(monkeypatch)
    model, x = adapted(bias=True), torch.randn(MANY, NARROW)
    fold_adapters(model)

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

    monkeypatch.setattr(folded, "Folded", SimpleNamespace(apply=spy))
    return shapes
