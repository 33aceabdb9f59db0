"""The forward pass of a training, without the padding's mask and untrained tokens' logits."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any

from medllm.finetune.rows.build import IGNORED
from medllm.finetune.train.distributed import is_split

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

SCORES_TRAINED_ALONE = {"cuda", "xpu"}
"""Devices with Triton, where TRL's fused head itself leaves out tokens that are not trained on."""


def make_lean(model: "PreTrainedModel", *, sees_images: bool) -> None:
    """Let a model with TRL's fused head train faster, to the same losses.

    Adapters are computed with their layers where that is less. Padding stands behind a text, where
    no token of a causal model sees it: without a mask PyTorch's attention leaves out the half above
    the diagonal. Logits are wanted where a token is trained on, and so is what the
    last feed-forward layer makes of a token; TRL computes the logits of every token, twice, where
    Triton does not run.
    """
    from medllm.finetune.train.lora_linear import join_adapters

    if not is_split():  # what gathers weights does it where a layer is called
        join_adapters(model)
    fused, last = model.forward, _last_mlp(model)
    is_masked = sees_images or model.config._attn_implementation != "sdpa"

    @wraps(fused)  # its signature says which arguments the model takes
    def forward(
        self: Any, *inputs: Any, fused_lm_head: bool = False, labels: Any = None, **named: Any
    ) -> Any:
        if not fused_lm_head or labels is None:
            return fused(*inputs, fused_lm_head=fused_lm_head, labels=labels, **named)
        if not is_masked and not named.get("output_router_logits"):  # padding is no expert's load
            named.pop("attention_mask", None)
        trained = labels[:, 1:] != IGNORED
        if self.device.type in SCORES_TRAINED_ALONE or not trained.any():
            return fused(*inputs, fused_lm_head=True, labels=labels, **named)

        picked = labels[:, 1:][trained][None]
        with _picking(trained, self, last):
            outputs = fused(*inputs, fused_lm_head=True, shift_labels=picked, **named)
        for name, value in tuple(outputs.items()):
            if value.shape == picked.shape:
                outputs[name] = value.new_zeros(trained.shape).masked_scatter(trained, value)
        return outputs

    model.forward = MethodType(forward, model)


def _last_mlp(model: "PreTrainedModel") -> "Module | None":
    """The last feed-forward layer, which sees one token at a time and whose outputs no other sees.

    None where there are experts, whose load is counted, or where it is built in another way.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if mlp is None or hasattr(mlp, "experts"):
        return None
    return mlp if len(inspect.signature(mlp.forward).parameters) == 1 else None


@contextmanager
def _picking(trained: "Tensor", model: "PreTrainedModel", mlp: "Module | None") -> Iterator[None]:
    """Within, a pass ends with the tokens before those that are trained on, alone.

    `trained` is for the tokens of a batch without the first. `mlp` computes those alone, too,
    unless the backward pass is to compute it again.
    """
    before = trained.new_zeros(len(trained), trained.shape[1] + 1)
    before[:, :-1] = trained

    def pick(_: Any, __: Any, outputs: Any) -> Any:
        outputs.last_hidden_state = outputs.last_hidden_state[before][None]
        return outputs

    def gather(_: Any, inputs: Any) -> Any:
        return inputs[0][before]

    def scatter(_: Any, __: Any, output: Any) -> Any:
        whole = output.new_zeros(*before.shape, output.shape[-1])
        whole[before] = output
        return whole

    hooks = [model.base_model.register_forward_hook(pick)]
    if mlp is not None and not model.is_gradient_checkpointing:
        hooks += [mlp.register_forward_pre_hook(gather), mlp.register_forward_hook(scatter)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
