"""Number formats that a model cannot be trained in."""

from medllm.errors import ConfigError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.train.base import computes_in
from medllm.models.load import ModelRef, read_config
from medllm.models.nf4 import check_reads_nf4

OVERFLOWING = ("gemma3", "gemma3_text", "gemma3n", "gemma3n_text")
"""Model types whose activations exceed 65504, the largest number of float16, so that they and the
gradients become infinite: https://unsloth.ai/blog/gemma3 (MedGemma is a Gemma 3),
https://github.com/huggingface/transformers/pull/37226 and https://unsloth.ai/blog/gemma-3n."""


def check_precision(config: FinetuneConfig, model: ModelRef, device: str) -> None:
    """Raise ConfigError where a model cannot be computed in float16, or in NF4, and would be."""
    if config.quantization:
        check_reads_nf4(model)
    kind = read_config(model.path).get("model_type")
    if kind in OVERFLOWING and computes_in(config, device) == "float16":
        raise ConfigError(
            f"finetune.dtype: {model.ref} cannot be trained in float16: activations of {kind} are "
            "larger than it can hold",
            "dtype: bfloat16, on a GPU that has it (NVIDIA Ampere or newer) or on Apple's; "
            "or dtype: float32, without quantization",
        )
