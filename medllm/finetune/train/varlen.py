"""Attention of rows that several texts share, by PyTorch's own kernel; imports torch.

`torch.nn.attention.varlen.varlen_attn` is flash attention for texts of any lengths that stand one
behind the other: no mask is built, and nothing is computed between them. It computes in 16 bits.
"""

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import varlen

from medllm.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

OLDEST = (8, 0)
"""The CUDA capability that PyTorch's flash attention needs: Ampere (its `sdp_utils.cpp`)."""
WIDE_HEADS = {(8, 0): 256, (9, 0): 256, (10, 0): 256, (10, 3): 256}
"""The size of a head that gradients are computed for, by capability; elsewhere 192 (the same)."""
ABILITIES = ("_supports_flash_attn", "_supports_sdpa", "_supports_attention_backend")
"""What transformers says of models that hand bounds on, and have no sinks and masks of their own"""
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What models may ask of attention that the kernel does not compute, as transformers calls it."""
OPTIONS = signature(varlen.varlen_attn).parameters
"""PyTorch 2.12 has `enable_gqa`, 2.10 no `window_size` and no `scale`."""


def why_not(kind: type | None, config: "PreTrainedConfig", dtype: str) -> str | None:
    """Why this GPU cannot compute attention so for a class of models; None where it can."""
    text, capability = config.get_text_config(), torch.cuda.get_device_capability()
    if not all(getattr(kind, each, False) for each in ABILITIES):  # it may have no heads
        return "the model takes none but its own"
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    facts = {
        "PyTorch is older than 2.11": "window_size" not in OPTIONS,
        "the GPU is older than NVIDIA's Ampere": torch.version.hip or capability < OLDEST,
        "float32 is computed in": dtype == "float32",
        f"its heads are {size} wide": size % 8 or size > WIDE_HEADS.get(capability, 192),
        "values are unlike keys": hasattr(text, "v_head_dim"),
    }
    for name in ("attn_logit_softcapping", "attention_dropout", "attn_pdrop",
                 "attention_chunk_size", "use_bidirectional_attention"):  # fmt: skip
        facts[f"the model has {name}"] = getattr(text, name, None)
    return next((reason for reason, holds in facts.items() if holds), None)


def register(name: str) -> None:
    """Let transformers' models take it as `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, _build_no_mask)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **given: Any
) -> tuple[torch.Tensor, None]:
    """Outputs [1, tokens, heads, size] of queries [1, heads, tokens, size], keys and values.

    `cu_seq_lens_q` and `max_length_q` say where each text begins, and the longest: TRL's collator
    makes them once a batch, on the CPU.

    Raises:
        ConfigError: the model does not hand them on, or asks for what the kernel does not compute.
    """
    bounds, device = given.get("cu_seq_lens_q"), query.device.type
    asked = given.get("dropout") or any(given.get(name) is not None for name in UNKNOWN)
    if asked or bounds is None or not getattr(module, "is_causal", True):
        raise _refusal("does not know where the texts of a row begin, or how this model attends")
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    rows = [each[0].transpose(0, 1).to(kind) for each in (query, key, value)]
    # as for flash attention, the token itself is not counted; -1 is no window
    window = ((given.get("sliding_window") or 0) - 1, 0)
    options: dict[str, Any] = {"scale": given.get("scaling"), "window_size": window}
    if "enable_gqa" in OPTIONS:
        options["enable_gqa"] = True
    else:
        groups = query.shape[1] // key.shape[1]
        rows[1:] = [each.repeat_interleave(groups, dim=1) for each in rows[1:]]
    longest = given["max_length_q"]
    return varlen.varlen_attn(*rows, bounds, bounds, longest, longest, **options)[None], None


def _build_no_mask(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> None:
    if attention_mask is not None:  # of padding, which would be attended to
        raise _refusal("is for packed rows")


def _refusal(why: str) -> ConfigError:
    message = f"finetune.attn_implementation: varlen_attn {why}"
    return ConfigError(message, "finetune.attn_implementation: sdpa")
