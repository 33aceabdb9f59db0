"""The `finetune:` section; option names are those of PEFT and of transformers' trainer."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from medllm.config.base import NOT_IDENTITY, DataConfig, Place, Ref, Strict
from medllm.data.split import SplitConfig
from medllm.finetune.search_config import ReplayConfig, SearchConfig, check_search
from medllm.finetune.secrets import find_push, find_secret
from medllm.models.chat.prompt_template import PromptTemplate
from medllm.models.hardware import Dtype

Attention = Literal[
    "auto",
    "sdpa",
    "eager",
    "varlen_attn",
    "flash_attention_2",
    "flash_attention_3",
    "flex_attention",
]
OverLength = Literal["truncate", "drop"]
Turns = Literal["all", "last"]


class LoraSettings(Strict):
    """The adapter."""

    r: int = Field(default=16, ge=1)
    """Rank."""
    lora_alpha: int = Field(default=32, ge=1)
    """Scale; the update is multiplied by lora_alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Literal["all-linear"] | tuple[str, ...] | None = "all-linear"
    """Which layers get an adapter; `null` for those that PEFT names for this architecture."""
    exclude_modules: tuple[str, ...] | None = None
    """Layers that get none; by default what reads the images of a vision-language model. An empty
    list excludes none."""
    target_parameters: tuple[str, ...] | None = None
    """Parameters that are no layers but get an adapter: the experts of a MoE model, by the ends of
    their names, such as `experts.down_proj`."""
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
    max_steps: int = Field(default=-1, ge=-1)
    """Stop after so many optimizer steps; -1 for none."""
    learning_rate: float = Field(default=2e-4, gt=0, le=100)
    """Highest learning rate."""
    lr_scheduler_type: str = "cosine"
    """Schedule of the learning rate."""
    warmup_steps: float = Field(default=0.03, ge=0)
    """Warm-up, in steps, or as a share of all steps if below 1."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the adapter's weights."""
    per_device_train_batch_size: int = Field(default=8, ge=1)
    """Examples of one step on one device; rows of several examples each, where they are packed."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Steps between two optimizer steps."""
    max_length: int = Field(default=1024, ge=16)
    """Tokens of an example; longer ones are dealt with as `over_length` says."""
    over_length: OverLength = "truncate"
    """Take the middle out of a prompt that is too long, or leave its example out."""
    train_on_turns: Turns = "all"
    """Which answers of a conversation are trained on: `all`, or the `last` alone."""
    logging_steps: int = Field(default=10, ge=1)
    """Optimizer steps between two log lines."""
    eval_steps: float = Field(default=0.25, gt=0)
    """Optimizer steps between two evaluations on validation rows, or a share of all if below 1."""
    save_steps: int = Field(default=200, ge=1)
    """Optimizer steps between two checkpoints."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations without a lower loss, and keep the best weights."""
    packing: bool | None = None
    """Several examples in a row of `max_length` tokens; by default where flash attention or
    `varlen_attn` is."""
    report_to: tuple[str, ...] = ("tensorboard",)
    """Trackers; nothing leaves this machine by default."""
    extra: dict[str, Any] = {}
    """Any other field of trl's SFTConfig, by its own name; no secrets, and nothing that pushes."""

    @model_validator(mode="after")
    def _check_extra(self) -> Self:
        if place := find_secret(self.extra):
            raise ValueError(
                f"extra.{place} holds a secret, and a recipe is kept beside what it makes: "
                "leave it out, and set it in the environment (HF_TOKEN, WANDB_API_KEY)"
            )
        if name := find_push(self.extra):
            raise ValueError(
                f"extra.{name}: what is trained is not sent to the hub from here: upload the "
                "finished folder yourself, as far as its card allows"
            )
        return self


class FinetuneConfig(DataConfig):
    """How to fine-tune."""

    model: Ref | None = None
    """The base model."""
    data: Place | None = None
    """A folder that `medllm prepare` wrote."""
    dtype: Dtype = "auto"
    """Number format of an adapter's base: bfloat16 where the device multiplies in it, else float16
    on a GPU and float32 on a CPU. Weights that are trained stay float32 unless `bfloat16` is asked
    for."""
    quantization: Literal["nf4"] | None = None
    """`nf4` trains the adapter on a base quantized to 4 bits (QLoRA), which takes less memory;
    merge the adapter with `merge.onto: nf4` for what training saw."""
    prompt_template: PromptTemplate | None = None
    """Takes the place of the model's own chat template, and stays with what is made of it."""
    attn_implementation: Attention = "auto"
    """Flash attention where it is installed, else PyTorch's own: on a GPU that takes it
    `varlen_attn` for packed rows, elsewhere `sdpa`."""
    lora: LoraSettings | None = LoraSettings()
    """The adapter; `null` trains all weights (full fine-tuning), and makes a model."""
    training: TrainingSettings = TrainingSettings()
    """The training."""
    replay: ReplayConfig | None = None
    """Other text mixed into the training, so that it is not forgotten."""
    search: SearchConfig | None = None
    """Try several settings, and keep what the best made."""
    split: SplitConfig = Field(default=SplitConfig(), json_schema_extra=NOT_IDENTITY)
    """What of the replayed dataset is held out; a shared key."""
    price_per_hour: float | None = Field(default=None, gt=0, json_schema_extra=NOT_IDENTITY)
    """What this machine costs, in your currency: `--dry-run` computes the price with it."""
    resume: bool = Field(default=True, json_schema_extra=NOT_IDENTITY)
    """Whether an interrupted run resumes from its newest checkpoint."""

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.quantization and self.lora is None:
            raise ValueError(
                "quantization: weights of 4 bits cannot be trained, so leave lora there"
            )
        if self.search:
            check_search(self, self.search)
        return self

    @property
    def makes(self) -> Literal["adapter", "model"]:
        """The kind of artifact."""
        return "adapter" if self.lora else "model"
