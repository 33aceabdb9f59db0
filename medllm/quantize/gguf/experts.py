"""How many tokens each expert of a MoE model is given, and which get hardly any.

transformers keeps the experts of a layer in one module with weights of three dimensions, so no
linear layer is there to listen to. Of its ways to run them, "grouped_mm", the default, keeps the
rows that the second weight reads in the order of the experts, and passes them through a method.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.quantize.gguf.squares import Squares

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

FIRST, SECOND = "gate_up_proj", "down_proj"
"""What transformers calls the weights of experts."""
ENOUGH_TOKENS = 200
"""The mean of n squares of a normal variable is off by sqrt(2/n): by 10 % for 200 tokens, and by
more where the tails are heavier, as those of real inputs are."""
SHOWN = 3


@contextmanager
def listening_to_experts(model: "PreTrainedModel", layers: dict[str, Squares]) -> Iterator[None]:
    """Meanwhile what each expert is given is added to `layers`, by the names of the weights.

    An architecture that runs its experts in a way of its own is not heard.
    """
    found = {name: module for name, module in model.named_modules() if _can_be_heard(module)}
    if found:
        model.set_experts_implementation("grouped_mm")
    hooks = []
    for name, module in found.items():
        first, second = (layers.setdefault(f"{name}.{part}", Squares()) for part in (FIRST, SECOND))
        hooks.append(module.register_forward_pre_hook(partial(_listen, first, second)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in found.values():
            vars(module).pop("_apply_gate", None)


def _can_be_heard(module: "Module") -> bool:
    """Whether transformers' `use_experts_implementation` is what runs the module."""
    return getattr(module, "has_gate", False) and hasattr(module, "_apply_gate")


def _listen(first: Squares, second: Squares, module: Any, inputs: tuple["Tensor", ...]) -> None:
    """Add the inputs of the first weight, and see to it that those of the second are added."""
    import torch

    states, experts = inputs[:2]  # (tokens, columns), (tokens, experts that each is sent to)
    sent = torch.nn.functional.one_hot(experts, module.num_experts).sum(1)
    tokens = sent.sum(0)  # not bincount, for which a GPU is waited for
    first.add(sent.float().T @ states.float().square(), tokens)
    order = experts.flatten().sort().values
    apply_gate: Callable[[Tensor], Tensor] = type(module)._apply_gate.__get__(module)

    def apply_and_add(rows: "Tensor") -> "Tensor":
        gated = apply_gate(rows)
        sums = gated.new_zeros((module.num_experts, gated.shape[-1]), dtype=torch.float32)
        second.add(sums.index_add_(0, order, gated.float().square()), tokens)
        return gated

    module._apply_gate = apply_and_add


def rarely_reached(layers: Mapping[str, Squares]) -> dict[str, int]:
    """The tokens of each expert that calibration hardly reached, by the expert's name."""
    return {
        f"{name.removesuffix(f'.{SECOND}')}.{number}": int(tokens)
        for name, layer in layers.items()
        if name.endswith(SECOND) and len(layer.tokens) > 1
        for number, tokens in enumerate(layer.tokens)
        if tokens < ENOUGH_TOKENS
    }


def say_rarely_reached(rare: Mapping[str, int]) -> None:
    """Name the experts that calibration hardly reached, the least reached first."""
    if not rare:
        return
    first = sorted(rare, key=lambda name: rare[name])[:SHOWN]
    named = ", ".join(f"{name}: {rare[name]}" for name in first)
    console.notice(
        f"quantize: experts that saw fewer than {ENOUGH_TOKENS} calibration tokens: {len(rare)} "
        f"({named}{' …' if len(rare) > SHOWN else ''}); more or other text may reach them"
    )
