"""The weights that a QLoRA training saw: quantized to NF4 and back."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medllm import console
from medllm.errors import SetupError

if TYPE_CHECKING:
    from torch import Tensor

    from medllm.merge.fold import Rounding


def nf4_rounding(folder: Path) -> "dict[str, Rounding]":
    """By parameters: the rounding of each weight that bitsandbytes quantizes in such a model.

    Raises:
        SetupError: bitsandbytes is not installed.
    """
    import torch
    import transformers
    from transformers.quantizers.base import get_keys_to_not_convert

    try:
        with console.quiet():
            from bitsandbytes import functional
    except ImportError as problem:
        raise SetupError("NF4 needs bitsandbytes", "pip install 'medllm[bnb]'") from problem
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"), console.quiet():
        model = getattr(transformers, config.architectures[0])(config)
    kept = set(get_keys_to_not_convert(model))
    return {
        f"{name}.weight": partial(_round, functional)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not kept & {name, name.rpartition(".")[2]}
    }


def _round(functional: object, weight: "Tensor") -> "Tensor":
    """To NF4 in blocks of 64 with double quantization, as QLoRA does, and back."""
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)  # type: ignore[attr-defined]
    rounded: Tensor = functional.dequantize_4bit(packed, state)  # type: ignore[attr-defined]
    return rounded.to(weight.dtype)
