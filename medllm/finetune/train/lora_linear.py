"""Linear layers of a training on a CPU: an adapter is computed with its layer, in few passes."""

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


class Narrow(torch.autograd.Function):  # type: ignore[misc]
    """x Wᵀ + bias + s·(x Aᵀ) Bᵀ, of which A and B learn; W is bfloat16, all else float32.

    W alone is multiplied in bfloat16: a sum with s·B·A would often round to W.
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
        inputs = x.flatten(0, -2)
        thin = inputs @ down.T
        context.save_for_backward(inputs, weight, down, up, thin)
        context.scaling = scaling
        outputs = _multiply(inputs, weight.T).addmm_(thin, up.T, alpha=scaling)
        if bias is not None:
            outputs += bias
        return outputs.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of `x`, A and B."""
        inputs, weight, down, up, thin = context.saved_tensors
        outputs = gradient.flatten(0, -2)
        back = outputs @ up
        of_down = (back.T @ inputs).mul_(context.scaling)
        of_up = (outputs.T @ thin).mul_(context.scaling)
        of_x = None
        if context.needs_input_grad[0]:
            of_x = _multiply(outputs, weight).addmm_(back, down, alpha=context.scaling)
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
    """The product in bfloat16, of sums in float32."""
    return (x.bfloat16() @ weight).float()


def widen(model: "PreTrainedModel") -> None:
    """Keep of a model in bfloat16 the large multiplications alone; the rest computes in float32.

    A CPU that multiplies in bfloat16 does so faster than in float32, and nothing else.
    """
    ends = [each for each in model.modules() if isinstance(each, torch.nn.Embedding)]
    ends += filter(None, [model.get_output_embeddings()])
    wide = {id(weight) for each in ends for weight in each.parameters()}
    linear = (layer for layer in model.modules() if type(layer) is torch.nn.Linear)
    frozen = [x for x in linear if not x.weight.requires_grad and id(x.weight) not in wide]
    narrow = {id(layer.weight) for layer in frozen}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in narrow:
            tensor.data = tensor.data.float()
    for layer in frozen:
        layer.forward = MethodType(_frozen, layer)


def _frozen(layer: Any, x: torch.Tensor) -> Any:
    return Frozen.apply(x, layer.weight, layer.bias)


def join_adapters(model: "PreTrainedModel") -> None:
    """Let layers with a plain LoRA adapter, without dropout, compute with it at once on a CPU.

    In float32 it is folded in, for batches of so many tokens that building the sum is less than
    what the adapter takes beside the layer: thin multiplications and passes over all outputs.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if type(layer) is Linear and _is_plain(layer):
            layer.forward = MethodType(_joining(layer.forward), layer)


def _is_plain(layer: Any) -> bool:
    (name,) = layer.active_adapters
    base = layer.base_layer
    return (
        type(base) is torch.nn.Linear
        and not base.weight.requires_grad
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
        return way.apply(x, base.weight, base.bias, down, up, layer.scaling[name])

    return forward


def _way(x: torch.Tensor, weight: torch.Tensor) -> type[Folded | Narrow] | None:
    """How a layer is computed with its adapter; None for one after the other."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return None
    if weight.dtype == torch.bfloat16:
        return Narrow
    rows, columns = weight.shape
    pays = weight.dtype == x.dtype and x.numel() // columns * (rows + columns) > 2 * rows * columns
    return Folded if pays else None
