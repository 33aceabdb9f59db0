"""The base that a training starts from, in the number format and attention that it trains in."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from medllm.errors import ConfigError, SetupError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.train.adapter import announce_unquantized, architecture_of
from medllm.finetune.train.distributed import is_fsdp
from medllm.models.hardware import Dtype, lacks_bfloat16, multiplies_bfloat16, pick_dtype
from medllm.models.load import ModelRef, load_causal_lm
from medllm.models.nf4 import load_nf4

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EVERYWHERE = ("auto", "sdpa", "eager")
"""Attention that trains on any device."""
VARLEN = "varlen_attn"
"""PyTorch's own attention for packed rows, `torch.nn.attention.varlen`."""
FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""By name, the module that computes it; the package `kernels` brings it, too."""


def load_base(
    config: FinetuneConfig, model: ModelRef, device: str, *, attention: str = "sdpa"
) -> "PreTrainedModel":
    """The base of an adapter, or the model whose every weight will be trained.

    Raises:
        SetupError: it is to be quantized, and bitsandbytes is not installed.
    """
    if attention == VARLEN:
        from medllm.finetune.train.varlen import register

        register(VARLEN)
    options: dict[str, Any] = {"attn_implementation": attention}
    if config.quantization is None:
        dtype = weights_dtype(config, device)
        place = "cpu" if is_fsdp() else device
        return load_causal_lm(model.location, dtype=dtype, device=place, **options)
    announce_unquantized(model, bits=32 if device == "cpu" else 16)
    return load_nf4(model.location, device, **options)


def weights_dtype(config: FinetuneConfig, device: str) -> Dtype:
    """The number format of the weights: "float32", "bfloat16" or "float16".

    Where all of them are trained it is float32 unless bfloat16 is asked for: an update is often
    smaller than what 16 bits tell apart (Micikevicius et al. 2018). Computed is in 16 bits then.
    """
    if config.lora is None:
        return "bfloat16" if config.dtype == "bfloat16" else "float32"
    if config.dtype == "auto" and device == "cpu" and multiplies_bfloat16():
        return "bfloat16"
    return pick_dtype(config.dtype, device)


def is_widened(config: FinetuneConfig, device: str) -> bool:
    """Whether the large multiplications alone are in bfloat16, as those of an adapter on a CPU."""
    unrounded = config.lora and config.quantization is None
    return bool(unrounded) and device == "cpu" and weights_dtype(config, device) == "bfloat16"


def computes_in(config: FinetuneConfig, device: str) -> str:
    """The number format of the activations: "float32", "bfloat16" or "float16"."""
    if config.quantization and lacks_bfloat16(device):
        return "float16"
    return "float32" if is_widened(config, device) else pick_dtype(config.dtype, device)


def pick_attention(config: FinetuneConfig, model: ModelRef, device: str) -> tuple[str, str | None]:
    """The attention of rows that examples share, and why it is not PyTorch's own for such rows.

    As asked, else flash attention where it is installed, else PyTorch's for packed rows where the
    GPU and the model take it, else PyTorch's for any rows, else the model's own.
    """
    wanted = config.attn_implementation
    if wanted not in {"auto", VARLEN}:
        return wanted, None
    kind, settings = architecture_of(model)
    # GPT-OSS, BLOOM, Mamba and others have none but their own
    plain = "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"
    if device != "cuda":
        return wanted.replace("auto", plain), None
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    takes_flash = wanted == "auto" and getattr(kind, "_supports_flash_attn", True)
    if takes_flash and is_flash_attn_3_available():
        return "flash_attention_3", None
    if takes_flash and is_flash_attn_2_available():
        return "flash_attention_2", None
    from medllm.finetune.train.varlen import why_not

    reason = why_not(kind, settings, computes_in(config, device))
    return (plain if reason else VARLEN), reason


def check_attention(wanted: str, device: str) -> None:
    """See that an attention that was asked for by name can be trained with here.

    Raises:
        ConfigError: it has a backward pass for GPUs alone.
        SetupError: its package is not installed.
    """
    if wanted in EVERYWHERE:
        return
    if device != "cuda":
        message = f"finetune.attn_implementation: {wanted} trains on CUDA GPUs alone"
        raise ConfigError(message, "leave it out, or take sdpa")
    if wanted in FLASH and find_spec(FLASH[wanted]) is None and find_spec("kernels") is None:
        fix = f"install {FLASH[wanted]}, or leave finetune.attn_implementation out"
        raise SetupError(f"{wanted} is not installed", fix)
