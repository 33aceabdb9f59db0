"""A forward pass of a training without what changes nothing: padding's mask, unlearnt logits."""

from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any

from medllm.finetune.rows import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCORES_LEARNT_ALONE = {"cuda", "xpu"}
"""Devices with Triton, where TRL's fused head leaves out the tokens that are not learnt itself."""


def make_lean(model: "PreTrainedModel", *, sees_images: bool) -> None:
    """Let a model with TRL's fused head train faster, to the same losses.

    Adapters are folded into their layers where that is less to compute. Padding stands behind a
    text, where no token of a causal model sees it: without a mask PyTorch's attention leaves out
    the half above the diagonal. Logits are wanted where something is learnt; TRL computes those of
    every token, twice, where Triton does not run.
    """
    from medllm.finetune.folded import fold_adapters

    fold_adapters(model)
    fused = model.forward
    is_masked = sees_images or model.config._attn_implementation != "sdpa"

    @wraps(fused)  # its signature says which arguments the model takes
    def forward(
        self: Any, *inputs: Any, fused_lm_head: bool = False, labels: Any = None, **named: Any
    ) -> Any:
        if not fused_lm_head or labels is None:
            return fused(*inputs, fused_lm_head=fused_lm_head, labels=labels, **named)
        if not is_masked and not named.get("output_router_logits"):  # padding is no expert's load
            named.pop("attention_mask", None)
        learnt = labels[:, 1:] != IGNORED
        if self.device.type in SCORES_LEARNT_ALONE or not learnt.any():
            return fused(*inputs, fused_lm_head=True, labels=labels, **named)

        def pick(_: Any, __: Any, outputs: Any) -> Any:
            outputs.last_hidden_state = outputs.last_hidden_state[:, :-1][learnt][None]
            return outputs

        picked = labels[:, 1:][learnt][None]
        hook = self.base_model.register_forward_hook(pick)
        try:
            outputs = fused(*inputs, fused_lm_head=True, shift_labels=picked, **named)
        finally:
            hook.remove()
        for name, value in tuple(outputs.items()):
            if value.shape == picked.shape:
                outputs[name] = value.new_zeros(learnt.shape).masked_scatter(learnt, value)
        return outputs

    model.forward = MethodType(forward, model)
