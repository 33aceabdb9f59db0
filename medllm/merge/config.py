"""The `merge:` section."""

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
    """Number format of the merged weights: float32 on CPU, bfloat16 or float16 on a GPU."""
    max_difference: float = Field(default=1e-4, gt=0)
    """Largest difference of logits allowed between merged model and base + adapter, in float32."""
