"""The `finetune:` section; option names are those of PEFT and of transformers' trainer."""

from typing import Any, Literal

from pydantic import Field

from medllm.config.base import NOT_IDENTITY, Place, Ref, Strict, VerbConfig
from medllm.models.hardware import Dtype
from medllm.models.prompt_template import PromptTemplate


class LoraSettings(Strict):
    """The adapter."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    lora_alpha: int = Field(default=32, ge=1)
    """Scale; the update is multiplied by lora_alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which layers get an adapter."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) instead, which keeps high ranks stable."""
    use_dora: bool = False
    """Learn the lengths of the weights' rows apart from their directions (DoRA); slower."""
    modules_to_save: tuple[str, ...] | None = None
    """Layers that are trained whole, such as `lm_head`."""


class TrainingSettings(Strict):
    """The trainer's options that medllm has an opinion on; the others go into `extra`."""

    num_train_epochs: float = Field(default=3, gt=0)
    """Passes over the training file."""
    max_steps: int = -1
    """Stop after so many optimizer steps; -1 for none."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Highest learning rate."""
    lr_scheduler_type: str = "cosine"
    """Course of the learning rate."""
    warmup_steps: float = Field(default=0.03, ge=0)
    """Warm-up, in steps, or as a share of all steps if below 1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the adapter's weights."""
    per_device_train_batch_size: int = Field(default=8, ge=1)
    """Examples of one step on one device."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Steps between two optimizer steps."""
    max_length: int = Field(default=1024, ge=16)
    """Tokens of an example; a longer prompt loses its middle."""
    logging_steps: int = Field(default=10, ge=1)
    """Optimizer steps between two log lines."""
    eval_steps: float = Field(default=0.25, gt=0)
    """Optimizer steps between two evaluations on validation rows, or a share of all if below 1."""
    save_steps: int = Field(default=200, ge=1)
    """Optimizer steps between two checkpoints."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations without a lower loss, and keep the best weights."""
    report_to: tuple[str, ...] = ("tensorboard",)
    """Trackers; nothing leaves this machine by default."""
    extra: dict[str, Any] = {}
    """Any other field of trl's SFTConfig, by its own name."""


class FinetuneConfig(VerbConfig):
    """How to fine-tune."""

    model: Ref | None = None
    """The base model."""
    data: Place | None = None
    """A folder that `medllm prepare` wrote."""
    dtype: Dtype = "auto"
    """Number format of the base: float32 on CPU, bfloat16 or float16 on a GPU."""
    quantization: Literal["nf4"] | None = None
    """`nf4` trains the adapter on a base rounded to 4 bits (QLoRA), which takes less memory;
    merge the adapter with `merge.onto: nf4` for what training saw."""
    prompt_template: PromptTemplate | None = None
    """Takes the place of the model's own chat template, and stays with what is made of it."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    training: TrainingSettings = TrainingSettings()
    """The training."""
    resume: bool = Field(default=True, json_schema_extra=NOT_IDENTITY)
    """Whether an interrupted run goes on from its newest checkpoint."""
