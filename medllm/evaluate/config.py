"""The `evaluate:` section."""

from typing import Literal

from pydantic import Field

from medllm.config.base import NOT_IDENTITY, ContextLength, DataConfig, Place, Ref, Strict
from medllm.data.split import SplitConfig
from medllm.models.hardware import Dtype

Swap = Literal["brands", "sex", "age", "ethnicity"]


class ModelChoice(Strict):
    """A model that is loaded otherwise than its files say."""

    ref: Ref
    """An adapter, or a model folder."""
    quantization: Literal["nf4"]
    """An adapter's base, or the model, is quantized to NF4 while it is loaded: what QLoRA saw."""


class EvaluateConfig(DataConfig):
    """What to evaluate, and on what."""

    models: tuple[Ref | ModelChoice, ...] = ()
    """Models, adapters, quantized folders, .gguf files, or addresses of OpenAI-compatible servers,
    with the model's name behind a #, as http://127.0.0.1:8000#org/name; or
    `{ref: ADAPTER, quantization: nf4}`, an adapter on the base that QLoRA saw.

    By default, under a recipe: the base, the merged one, else what was trained, and every quantized
    one.
    """
    tasks: tuple[str, ...] = ("answers",)
    """Names of tasks."""
    task_dir: Place | None = None
    """Folder with your own tasks (`<name>.yaml`)."""
    data: Place | None = None
    """A folder that `medllm prepare` wrote; tasks without a dataset, such as `answers`, read its
    test split. `perplexity` reads any file or folder of texts, all of it."""
    limit: int | None = Field(default=None, gt=0)
    """At most so many items of each task, drawn by seed."""
    apply_chat_template: bool = False
    """Ask for choices through the chat template; lm-evaluation-harness does not by default."""
    baseline: Place | None = None
    """An evaluation of before, the folder of one model in it, or what lm-evaluation-harness wrote
    with `--log_samples`: each model is compared with it item by item. By default all are compared
    with the first model."""
    margin: float | None = Field(default=None, gt=0, json_schema_extra=NOT_IDENTITY)
    """A loss that is still no harm, as 0.02 of an accuracy: each model is non-inferior, inferior,
    or not decided."""
    by: tuple[str, ...] = Field(default=(), json_schema_extra=NOT_IDENTITY)
    """Metadata of the rows, as `metadata.sex` or `metadata.age`: scores stand by it, too."""
    gate: Ref | None = None
    """A file of thresholds, or the name of a shipped one (`release`, `error-detection`,
    `hallucination`, `memorisation`, `safety`, `summary`): what fails it ends the command with exit
    code 6."""
    num_fewshot: int = Field(default=0, ge=0)
    """Worked examples before each question with choices: the first rows to train on, of MMLU those
    of the subject's dev split. Through a chat template each is a turn of its own."""
    option_shuffles: int = Field(default=0, ge=0, le=23)
    """Ask each question again with its options in so many other orders, drawn by seed, and count
    whose answer flips; it takes as many times longer."""
    show_text: bool = False
    """Keep answers and references in the records and show some on the page, though the data are not
    open; those of open data always are."""
    encoder: Ref = "emilyalsentzer/Bio_ClinicalBERT"
    """Folder of the encoder that BERTScore is made with, or a hub id whose files are on this
    machine already; nothing is downloaded for it."""
    encoder_layer: int | None = Field(default=None, gt=0)
    """The layer whose hidden states are compared; by default three quarters up, the ninth of 12."""
    swaps: tuple[Swap, ...] = ()
    """Ask each question again with words exchanged that should change no answer, and count whose
    answer flips: `brands` (brand and generic names of drugs), `sex`, `age`, `ethnicity`."""
    allow_remote: bool = False
    """Whether data that are not open may be sent to a model at an address of another machine."""
    judge: str | None = None
    """The address of a model that judges answers by criteria, as http://127.0.0.1:8000#NAME."""
    judge_sheet: Place | None = None
    """A table of what people say of the same answers: how far the judge agrees. It is the filled
    `<task>.criteria.csv` of an evaluation, or has the columns `id`, `criterion` (its number from
    1), `met` (yes or no), and `model` where several are judged."""
    n_ctx: ContextLength | None = None
    """Context length; default: the model's own, at most 4096 for .gguf files."""
    dtype: Dtype = "auto"
    """Number format that transformers computes in; `auto`: bfloat16 on a GPU that has it, float16
    on another one, float32 on a CPU, and for a quantized model that of its files."""
    split: SplitConfig = SplitConfig()
    """What is held out; a shared key."""
