"""Linear layers of a training: an adapter is computed with its layer, in few passes."""

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLAIN = {"Linear", "Linear4bit"}
"""The names of PEFT's layers that an adapter is joined to, and of theirs."""


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


class Joined(torch.autograd.Function):  # type: ignore[misc]
    """x Wᵀ + bias + s·(x Aᵀ) Bᵀ, of which A and B learn; the outputs have the number format of x.

    W alone is multiplied in its own format, bfloat16 on a CPU: a sum with s·B·A would often round
    to W. One of 4 bits is made whole for either direction. A and B are cast to the format of x, so
    that their gradients are as exact as x is: 2⁻⁹ of each number in bfloat16.
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
        down, up = (each.to(x.dtype) for each in adapter[:2])
        inputs = x.flatten(0, -2)
        thin = inputs @ down.T
        context.save_for_backward(inputs, down, up, thin)
        # a saved tensor would come back without the state of its 4 bits
        context.weight, context.scaling = weight, adapter[2]
        outputs = _multiply(inputs, _whole(weight, x.dtype).T)
        outputs.addmm_(thin, up.T, alpha=context.scaling)
        if bias is not None:
            outputs += bias
        return outputs.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of `x`, A and B."""
        inputs, down, up, thin = context.saved_tensors
        outputs = gradient.flatten(0, -2)
        back = outputs @ up
        of_down = (back.T @ inputs).mul_(context.scaling)
        of_up = (outputs.T @ thin).mul_(context.scaling)
        of_x = None
        if context.needs_input_grad[0]:
            of_x = _multiply(outputs, _whole(context.weight, outputs.dtype))
            of_x = of_x.addmm_(back, down, alpha=context.scaling)
            of_x = of_x.view(*gradient.shape[:-1], -1)
        return of_x, None, None, of_down, of_up, None


class Frozen(torch.autograd.Function):  # type: ignore[misc]
    """x Wᵀ + bias, of which nothing learns; W is bfloat16, all else float32."""

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The outputs of the layer."""
        context.save_for_backward(weight)
        outputs = _multiply(x.flatten(0, -2), weight.T)
        if bias is not None:
            outputs += bias
        return outputs.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of `x`."""
        (weight,) = context.saved_tensors
        of_x = _multiply(gradient.flatten(0, -2), weight)
        return of_x.view(*gradient.shape[:-1], -1), None, None


def _multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The product in the number format of the weight, of sums in float32."""
    return (x.to(weight.dtype) @ weight).to(x.dtype)


def _whole(weight: Any, dtype: torch.dtype) -> Any:
    """The matrix of a layer; from 4 bits, where it is quantized, in a number format."""
    if not hasattr(weight, "quant_state"):
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight, weight.quant_state).to(dtype)


def widen(model: "PreTrainedModel") -> None:
    """Keep of a model in bfloat16 the large multiplications alone; the rest computes in float32.

    A CPU that multiplies in bfloat16 does so faster than in float32, and nothing else.
    """
    ends = [each for each in model.modules() if isinstance(each, torch.nn.Embedding)]
    ends += filter(None, [model.get_output_embeddings()])
    wide = {id(weight) for each in ends for weight in each.parameters()}
    # an adapter on a parameter is added to it in each pass, and `Frozen` computes no gradient of it
    wide |= {id(x.base_layer.weight) for x in model.modules() if _adds_to_linear(x)}
    linear = (layer for layer in model.modules() if type(layer) is torch.nn.Linear)
    frozen = [x for x in linear if not x.weight.requires_grad and id(x.weight) not in wide]
    narrow = {id(layer.weight) for layer in frozen}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in narrow:
            tensor.data = tensor.data.float()
    for layer in frozen:
        layer.forward = MethodType(_frozen, layer)


def _adds_to_linear(module: Any) -> bool:
    is_wrapper = type(module).__name__ == "ParamWrapper"
    return is_wrapper and type(module.base_layer) is torch.nn.Linear


def _frozen(layer: Any, x: torch.Tensor) -> Any:
    return Frozen.apply(x, layer.weight, layer.bias)


def join_adapters(model: "PreTrainedModel") -> None:
    """Let layers with a plain LoRA adapter, without dropout, compute with it at once.

    On a CPU in float32 it is folded in, for batches of so many tokens that building the sum is less
    than what the adapter takes beside the layer: thin multiplications and passes over all outputs.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and _is_plain(layer):
            layer.forward = MethodType(_joining(layer.forward), layer)


def _is_plain(layer: Any) -> bool:
    if type(layer).__name__ not in PLAIN or type(layer.base_layer).__name__ not in PLAIN:
        return False
    (name,) = layer.active_adapters
    return (
        not layer.base_layer.weight.requires_grad
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and layer.lora_B[name].bias is None
    )


def _joining(own: Any) -> Any:
    def forward(layer: Any, x: torch.Tensor, *inputs: Any, **named: Any) -> Any:
        base = layer.base_layer
        way = _way(x, base.weight)
        if inputs or named or layer.disable_adapters or layer.merged or way is None:
            return own(x, *inputs, **named)
        (name,) = layer.active_adapters
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        return way(x, base.weight, base.bias, down, up, layer.scaling[name])

    return forward


def _way(x: torch.Tensor, weight: torch.Tensor) -> Any:
    """How a layer is computed with its adapter; None for one after the other."""
    if x.device.type != "cpu":
        return _way_of_gpu(x, weight)
    if x.dtype != torch.float32:
        return None
    if weight.dtype == torch.bfloat16:
        return Joined.apply
    rows, columns = weight.shape
    pays = weight.dtype == x.dtype and x.numel() // columns * (rows + columns) > 2 * rows * columns
    return Folded.apply if pays else None


def _way_of_gpu(x: torch.Tensor, weight: Any) -> Any:
    """The adapter beside its layer, both in the number format that the layer is computed in."""
    device = x.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if hasattr(weight, "quant_state"):  # its layer answers in the format of x
        return Joined.apply if x.dtype == kind else None
    return (lambda x, *rest: Joined.apply(x.to(kind), *rest)) if weight.dtype == kind else None
