"""The `generate:` section."""

from pydantic import Field

from medllm.clinical.settings import ReviewSettings
from medllm.config.base import ContextLength, Place, Ref, Temperature, VerbConfig
from medllm.models.hardware import Dtype


class GenerateConfig(VerbConfig):
    """What to generate."""

    model: Ref | None = None
    """The model that answers."""
    prompt: str | None = None
    """One prompt; the answer goes to the screen, and `input` is left alone."""
    system: str | None = None
    """What the model is told before each conversation that has no system message of its own."""
    input: Place | None = None
    """A data file with prompts; the answers go to `generations.jsonl`."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer."""
    temperature: Temperature = 0.0
    """0 is greedy decoding; 2 is the most, as in OpenAI's interface."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    n_ctx: ContextLength | None = None
    """Context length; default: the model's own, at most 4096 for .gguf files."""
    dtype: Dtype = "auto"
    """Number format that transformers computes in; `auto`: bfloat16 on a GPU that has it, float16
    on another one, float32 on a CPU, and for a quantized model that of its files."""
    review: ReviewSettings | None = None
    """How each answer is reviewed by clinical rules; `review: {}` does it with the defaults."""
