"""Which activations of a training a GPU keeps, and which it computes again."""

from typing import TYPE_CHECKING

from medllm.finetune.activations import Need, Recomputation
from medllm.finetune.rows.build import lengths_of
from medllm.finetune.train.adapter import architecture_of
from medllm.finetune.train.base import computes_in
from medllm.finetune.train.distributed import is_split
from medllm.models.hardware import free_memory_gib

if TYPE_CHECKING:
    from medllm.finetune.config import FinetuneConfig
    from medllm.finetune.rows.material import Material

CHOSEN = {"gradient_checkpointing", "gradient_checkpointing_kwargs"}
"""The trainer's options that say it already."""


def choose_recomputation(
    config: "FinetuneConfig", material: "Material", device: str
) -> Recomputation | None:
    """What fits into the memory that is free; None where it is said already, or no GPU trains."""
    if device != "cuda" or CHOSEN & config.training.extra.keys():
        return None
    tokens = config.training.per_device_train_batch_size * max(lengths_of(material.splits.train))
    need = _estimate(config, material) if _is_plain(config, material) else None
    return Recomputation.choose(need, tokens, free_memory_gib(device))


def _is_plain(config: "FinetuneConfig", material: "Material") -> bool:
    """Whether a step is what the estimate counts: a plain adapter, in 16 bits, on text."""
    lora = config.lora
    return (
        lora is not None
        and not (lora.lora_dropout or lora.use_dora or lora.target_parameters)
        and not (lora.modules_to_save or material.images or is_split())
        and material.attention not in {"eager", "flex_attention"}
        and computes_in(config, "cuda") != "float32"
    )


def _estimate(config: "FinetuneConfig", material: "Material") -> Need | None:
    kind, settings = architecture_of(material.inputs.model)
    if kind is None or config.lora is None:
        return None
    return Need.of(kind, settings, config.lora.r, is_nf4=config.quantization == "nf4")
