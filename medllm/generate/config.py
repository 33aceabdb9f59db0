"""The `generate:` section."""

from typing import Literal, Self

from pydantic import Field, model_validator

from medllm.clinical.settings import ReviewSettings
from medllm.config.base import ContextLength, FolderName, Place, Ref, VerbConfig
from medllm.config.writing import Writing
from medllm.engines.sampling import Sampling, contradiction
from medllm.models.hardware import Dtype

OverLength = Literal["refuse", "split"]


class Sampled(Writing):
    """How answers are written, in settings that do not contradict each other."""

    def sampling(self, seed: int) -> Sampling:
        """As an engine takes it."""
        values = {name: getattr(self, name) for name in Writing.model_fields}
        return Sampling(**values, seed=seed)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if problem := contradiction(self.sampling(0).named):
            raise ValueError("; ".join(problem))
        return self


class Stage(Sampled):
    """A model that writes of a text, or of what the stage before it wrote.

    What it does not name is as in the section.
    """

    name: FolderName
    """Names its file."""
    model: Ref | None = None
    """The model that writes; by default that of the section."""
    quantization: Literal["nf4"] | None = None
    """`nf4` quantizes the base to 4 bits as it is loaded, as QLoRA did."""
    system: str | None = None
    """What the model is told before each text."""
    instruction: str = Field(min_length=1)
    """What it is to make of the text, which stands below."""
    batch_size: int | None = Field(default=None, ge=1, le=1024)
    """As that of the section, for this stage."""
    over_length: OverLength = "split"
    """A text that leaves no room for an answer is read in pieces, whose answers stand below each
    other and are the text of the next stage; or it is refused."""
    n_ctx: ContextLength | None = None
    """Context length."""


class GenerateConfig(VerbConfig, Sampled):
    """What to generate."""

    model: Ref | None = None
    """The model that answers, or the address of a server, as http://127.0.0.1:8000#org/name."""
    quantization: Literal["nf4"] | None = None
    """`nf4` quantizes the model, or the base of an adapter, to 4 bits as it is loaded: what a QLoRA
    adapter was trained on."""
    prompt: str | None = None
    """One prompt; the answer goes to the screen, and `input` is left alone."""
    system: str | None = None
    """What the model is told before each conversation that has no system message of its own."""
    input: Place | None = None
    """A data file with prompts; the answers go to `generations.jsonl`."""
    batch_size: int | None = Field(default=None, ge=1, le=1024)
    """The most answers that are written together; by default 8 on a processor, 64 on a GPU, fewer
    where memory is short. 1: one after another."""
    abstain_below: float | None = Field(default=None, ge=0, le=1)
    """Answers of less confidence are marked as uncertain."""
    max_words: int | None = Field(default=None, ge=1)
    """Answers of more words are marked as too long."""
    over_length: OverLength = "refuse"
    """A prompt that leaves no room for an answer is refused; `split`: its longest message is read
    in pieces, whose answers stand below each other."""
    n_ctx: ContextLength | None = None
    """Context length; default: the model's own, at most 4096 for .gguf files."""
    dtype: Dtype = "auto"
    """Number format that transformers computes in; `auto`: bfloat16 on a GPU that has it, float16
    on another one, float32 on a CPU, and for a quantized model that of its files."""
    allow_remote: bool = False
    """Whether what is asked may go to a model at an address of another machine."""
    review: ReviewSettings | None = None
    """How each answer is reviewed by clinical rules; `review: {}` does it with the defaults."""
    stages: tuple[Stage, ...] = ()
    """Models that write one after another, each of what the one before it wrote."""
    encoder: Ref | None = None
    """With stages: the folder of the encoder that BERTScore is made with, or a hub id whose files
    are on this machine."""

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if self.stages and self.review:
            raise ValueError(
                "stages are not reviewed; `medllm review --input` reads what they wrote"
            )
        if self.stages and self.prompt is not None:
            raise ValueError("stages read a file: name it as input, and leave prompt out")
        if self.encoder and not self.stages:
            raise ValueError("encoder compares what stages write, and there are no stages")
        names = [stage.name for stage in self.stages]
        if len({*names}) < len(names):
            raise ValueError("two stages have one name")
        return self
