"""TRL's trainer, set up: arguments, adapter, packing; and one training from start to end."""

import os
import signal
import statistics
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ConfigError, SetupError
from medllm.finetune.activations import Recomputation
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import Splits, lengths_of
from medllm.finetune.rows.material import Material
from medllm.finetune.train.adapter import announce_experts, build_adapter, why_refused
from medllm.finetune.train.base import is_widened, load_base
from medllm.finetune.train.checkpoints import newest_checkpoint
from medllm.finetune.train.distributed import is_sharded, share
from medllm.finetune.train.fast_forward import make_lean
from medllm.finetune.train.lora_linear import widen
from medllm.finetune.train.moe import leave_out_unknown
from medllm.finetune.train.validation import TokenMeans
from medllm.models.hardware import pick_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.trainer_utils import TrainOutput
    from trl import SFTConfig, SFTTrainer

    from medllm.finetune.train.callbacks import Watch


class OutOfMemory(SetupError):
    """The GPU's memory is too small."""


AT_A_TIME = 1200
"""Tokens that a CPU computes at once: the activations of few stay in its cache."""
MULTIPLE = 64
"""Tokens that the length of a batch of rows apart is a multiple of on a GPU.

2,048 tokens make 32 lengths then, so that memory of the same sizes is used again and again; the
tiles of flash attention and of matrix products are whole. Rows of 1,000 tokens get 3 % padding.
"""
OURS = {"extra", "early_stopping_patience", "packing", "over_length", "train_on_turns"}
"""Of the training's options, those that are not handed to the trainer as they are."""


def trainer_arguments(
    config: FinetuneConfig, folder: Path, device: str, *, can_evaluate: bool
) -> "SFTConfig":
    """The trainer's arguments, every name checked against its own.

    Raises:
        ConfigError: `extra` holds a name that the trainer does not know, or a value it refuses.
    """
    with console.quiet():  # trl and peft import gptqmodel if it is installed: it prints a banner
        from trl import SFTConfig

    extra = config.training.extra
    if unknown := sorted(extra.keys() - SFTConfig.__dataclass_fields__.keys()):
        message = f"finetune.training.extra: trl's SFTConfig has no option '{unknown[0]}'"
        raise ConfigError(message, "check its name")
    dtype = "float32" if is_widened(config, device) else pick_dtype(config.dtype, device)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    arguments: dict[str, Any] = {
        **config.training.model_dump(mode="json", exclude=OURS),
        "output_dir": str(folder / "checkpoints"),
        "seed": config.seed,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "gradient_checkpointing": device != "cpu",
        "train_sampling_strategy": "group_by_length",
        "per_device_eval_batch_size": config.training.per_device_train_batch_size,
        **({"optim": "paged_adamw_8bit"} if config.quantization and device == "cuda" else {}),
        "eval_strategy": "steps" if can_evaluate else "no",
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "dataloader_pin_memory": device != "cpu",
        "ddp_find_unused_parameters": False,
        **(_stopping_early(config) if can_evaluate else {}),
        **extra,
    }
    try:
        made = SFTConfig(**arguments)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"finetune.training: {problem}", "correct the option") from problem
    made._n_gpu = min(made.n_gpu, 1)  # of several it would take all, which TRL refuses
    return made


def _split_batches(arguments: "SFTConfig", splits: Splits) -> None:
    """Let an optimizer step take its examples in smaller parts."""
    whole = arguments.per_device_train_batch_size
    fitting = AT_A_TIME / statistics.fmean(lengths_of(splits.train))
    size = max(n for n in range(1, whole + 1) if whole % n == 0 and n <= max(fitting, 1))
    arguments.per_device_train_batch_size = size
    arguments.gradient_accumulation_steps *= whole // size


def keep_shapes_few(arguments: "SFTConfig", config: FinetuneConfig, splits: Splits) -> None:
    """Let a GPU meet few shapes, and no attention that plans anew for each of them: cuDNN's."""
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
    if not splits.is_packed and "pad_to_multiple_of" not in config.training.extra:
        arguments.pad_to_multiple_of = MULTIPLE


def _recompute(arguments: "SFTConfig", chosen: Recomputation) -> None:
    """Let the trainer compute again the activations that were chosen."""
    arguments.gradient_checkpointing = chosen.every > 0
    if chosen.every > 1:
        arguments.gradient_checkpointing_kwargs = {"every_n_layers": chosen.every}


def _stopping_early(config: FinetuneConfig) -> dict[str, Any]:
    """The arguments that keep the best weights."""
    if config.training.early_stopping_patience is None:
        return {}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    counting = {"restore_callback_states_from_checkpoint": True}  # of the patience
    return {**best, **counting, "save_steps": config.training.eval_steps}


def open_trainer(
    config: FinetuneConfig, material: Material, folder: Path, device: str
) -> "SFTTrainer":
    """The trainer of an adapter, or of the whole model, which it loads.

    Raises:
        ConfigError: an option that the trainer does not know, or an adapter that fits no layer.
        SetupError: something to load the model with is not installed.
    """
    warnings.filterwarnings("ignore", "Setting `save_embedding_layers`")  # PEFT's; we say it
    splits = material.splits
    can_evaluate = splits.validation is not None
    arguments = trainer_arguments(config, folder, device, can_evaluate=can_evaluate)
    arguments.packing = splits.is_packed
    if device == "cpu":
        _split_batches(arguments, splits)
    if device == "cuda":
        keep_shapes_few(arguments, config, splits)
    if material.recomputation:
        _recompute(arguments, material.recomputation)
    base = load_base(config, material.inputs.model, device, attention=material.attention)
    material.tokenizer.fit(base)
    trainer = _build_trainer(config, base, material.tokenizer.own, splits, arguments)
    if is_widened(config, device):
        widen(base)
    return trainer


def _build_trainer(
    config: FinetuneConfig,
    base: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    splits: Splits,
    arguments: "SFTConfig",
) -> "SFTTrainer":
    """The trainer of a model that is there.

    Raises:
        ConfigError: the adapter fits no layer of this model, or TRL cannot train it.
    """
    from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
    from trl import SFTTrainer

    if splits.collate and not config.lora:  # a batch without images leaves their layers without one
        arguments.ddp_find_unused_parameters = True
    if base.base_model is base:  # Llama 4 without images
        message = f"finetune.model: TRL finds no layers without the head in {type(base).__name__}"
        raise ConfigError(message, "take another model; this one can be evaluated and quantized")
    leave_out_unknown(arguments, base)
    set_seed(config.seed)  # the trainer sets it after the adapter was drawn
    try:
        with console.quiet():
            trainer = SFTTrainer(
                base,
                arguments,
                train_dataset=splits.train,
                eval_dataset=splits.validation,
                processing_class=tokenizer,
                data_collator=splits.collate,
                peft_config=build_adapter(config.lora, base) if config.lora else None,
            )
    except ValueError as problem:
        if config.lora and (refused := why_refused(config.lora, str(problem))):
            raise refused from problem
        raise
    make_lean(base, sees_images=splits.collate is not None)
    TokenMeans(trainer)
    announce_experts(trainer.model)
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dictionary
    if (patience := config.training.early_stopping_patience) and splits.validation:
        trainer.add_callback(EarlyStoppingCallback(patience))
    return trainer


def run(trainer: "SFTTrainer", config: FinetuneConfig, folder: Path) -> "tuple[TrainOutput, Watch]":
    """Train to the end.

    Raises:
        OutOfMemory: the GPU's memory is too small.
        SystemExit: SIGTERM came; a checkpoint is there.
    """
    import torch

    from medllm.finetune.train.callbacks import Watch
    from medllm.finetune.train.resumption import SameOrder

    watch = Watch()
    trainer.add_callback(watch)
    trainer.add_callback(SameOrder())  # behind what may ask for a checkpoint
    tuned = None if is_sharded(trainer) else trainer.model
    checkpoint = share(lambda: newest_checkpoint(folder, config.resume, tuned))
    trainer.args.eval_on_start = checkpoint is None and trainer.eval_dataset is not None
    try:
        losses = trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as problem:
        size = config.training.per_device_train_batch_size
        raise OutOfMemory(
            f"the GPU has too little memory for {size} examples of up to "
            f"{config.training.max_length} tokens at once",
            "halve training.per_device_train_batch_size and double gradient_accumulation_steps; "
            "or lower max_length; or add training.extra.gradient_checkpointing: true or "
            "training.extra.auto_find_batch_size: true",
        ) from problem
    if watch.terminated:
        console.notice("finetune: a checkpoint is saved; the same command resumes from it")
        raise SystemExit(128 + signal.SIGTERM)
    return losses, watch
