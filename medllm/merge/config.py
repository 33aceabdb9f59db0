"""The `merge:` section."""

from typing import Literal

from pydantic import Field

from medllm.config.base import Place, Ref, VerbConfig
from medllm.models.hardware import Dtype


class MergeConfig(VerbConfig):
    """How to merge."""

    adapter: Place | None = None
    """A folder that `medllm finetune` (or PEFT) wrote."""
    model: Ref | None = None
    """The base; default: the one that the adapter names."""
    dtype: Dtype = "auto"
    """Number format of the merged weights; `auto` is that of the base."""
    onto: Literal["base", "nf4"] = "base"
    """`nf4` folds a QLoRA adapter into the weights that its training saw: quantized to NF4."""
    verify: bool = True
    """Whether the saved model is compared with base + adapter."""
    max_difference: float = Field(default=1e-4, gt=0)
    """Largest difference of logits allowed between merged model and base + adapter, in float32; in
    proportion to the largest logit, if that is above 1 and the mean difference is mere rounding."""
