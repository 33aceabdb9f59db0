"""Linear layers with an adapter, computed as one multiplication where that is less."""

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Folded(torch.autograd.Function):  # type: ignore[misc]
    """x (W + s·B·A)ᵀ + bias, of which A and B learn; LoRA's own way is x Wᵀ + bias + s·(x Aᵀ) Bᵀ.

    `x` has the columns of W, which stays as it is: the sum is built for either direction.
    """

    @staticmethod
    def forward(
        context: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *adapter: Any,
    ) -> torch.Tensor:
        """The outputs of the layer; `adapter` is A, B and s."""
        down, up, scaling = adapter
        context.save_for_backward(x, weight, down, up)
        context.scaling = scaling
        whole = torch.addmm(weight, up, down, alpha=scaling)
        return torch.nn.functional.linear(x, whole, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of `x`, A and B."""
        x, weight, down, up = context.saved_tensors
        inputs, outputs = x.flatten(0, -2), gradient.flatten(0, -2)
        of_down = ((outputs @ up).T @ inputs).mul_(context.scaling)
        of_up = (outputs.T @ (inputs @ down.T)).mul_(context.scaling)
        of_x = None
        if context.needs_input_grad[0]:
            whole = torch.addmm(weight, up, down, alpha=context.scaling)
            of_x = (outputs @ whole).view_as(x)
        return of_x, None, None, of_down, of_up, None


def fold_adapters(model: "PreTrainedModel") -> None:
    """Let layers with a plain LoRA adapter, without dropout, compute with it folded in.

    They do so on a CPU, for batches of so many tokens that building the sum is less than what the
    adapter takes beside the layer: thin multiplications and passes over all outputs.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if type(layer) is Linear and _is_plain(layer):
            layer.forward = MethodType(_folding(layer.forward), layer)


def _is_plain(layer: Any) -> bool:
    (name,) = layer.active_adapters
    base = layer.base_layer
    return (
        type(base) is torch.nn.Linear
        and base.weight.dtype == torch.float32
        and not base.weight.requires_grad
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and layer.lora_B[name].bias is None
    )


def _folding(own: Any) -> Any:
    def forward(layer: Any, x: torch.Tensor, *inputs: Any, **named: Any) -> Any:
        rows, columns = layer.base_layer.weight.shape
        tokens = x.numel() // columns
        pays = x.device.type == "cpu" and tokens * (rows + columns) > 2 * rows * columns
        if inputs or named or layer.disable_adapters or layer.merged or not pays:
            return own(x, *inputs, **named)
        (name,) = layer.active_adapters
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        base = layer.base_layer
        return Folded.apply(x, base.weight, base.bias, down, up, layer.scaling[name])

    return forward
