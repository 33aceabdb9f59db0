"""The finetune verb."""

import os
import shutil
import statistics
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input, open_input
from medllm.artifacts.manifest import Counts, Manifest, join_terms
from medllm.errors import ArtifactError, ConfigError, DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows import RowCounts, load_rows
from medllm.models.chat import TokenizerTemplate
from medllm.models.hardware import pick_device, pick_dtype
from medllm.models.load import (
    ModelRef,
    load_causal_lm,
    load_tokenizer,
    resolve_model,
    save_tokenizer,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer


def finetune(config: FinetuneConfig) -> Manifest:
    """An adapter: PEFT's files with the tokenizer beside them, and TensorBoard logs under `logs/`.

    An interrupted run goes on from its newest whole checkpoint.

    Raises:
        ConfigError: nothing to train on is named, or an option the trainer does not know.
        ArtifactError: the model or the dataset is missing, altered or of another kind.
    """
    if config.data is None:
        raise ConfigError(
            "no training data are named", "--data DIR, a folder that `medllm prepare` wrote"
        )
    data = open_input(config.data, ("dataset",), "training data")
    if not (data.path / "train.jsonl").is_file():
        raise ArtifactError(
            f"{data.path}: has no train.jsonl", "name a folder that `medllm prepare` wrote"
        )
    model = resolve_model(config.model, kinds=("model",))
    job = Job.of(
        config,
        "adapter",
        "finetune",
        format="lora",
        parents=(model.parent, data.parent),
        data_terms=join_terms(model.data_terms, data.data_terms),
        base_model=model.base,
    )
    return produce(job, partial(_train, config, model, data))


def _train(config: FinetuneConfig, model: ModelRef, data: Input, folder: Path) -> Outcome:
    started = time.monotonic()
    device = pick_device()
    arguments = _trainer_arguments(config, folder, device)
    tokenizer = load_tokenizer(model.location)
    splits, counts = _load_splits(config, TokenizerTemplate(tokenizer), data.path, folder)
    base = load_causal_lm(model.location, dtype=config.dtype, device=device)
    trainer = _build_trainer(config, base, tokenizer, splits, arguments)
    before = trainer.evaluate()["eval_loss"] if "validation" in splits else None
    losses = trainer.train(resume_from_checkpoint=_newest_checkpoint(folder, config.resume))
    after = trainer.evaluate()["eval_loss"] if "validation" in splits else None
    _save(trainer, model, folder)
    results = {
        "train_loss": _mean_loss(trainer, losses.training_loss),
        "validation_loss_before": before,
        "validation_loss": after,
        "steps": losses.global_step,
        "trainable_parameters": sum(
            p.numel() for p in trainer.model.parameters() if p.requires_grad
        ),
        "seconds": round(time.monotonic() - started, 1),
        "rows": asdict(counts),
    }
    rejected = {"answer longer than max_length": counts.too_long} if counts.too_long else {}
    return Outcome(Counts(examples=counts.examples, rejected=rejected), results, device)


def _load_splits(
    config: FinetuneConfig, template: TokenizerTemplate, data: Path, folder: Path
) -> "tuple[dict[str, Dataset], RowCounts]":
    """The training rows and, where there are any, the validation rows."""
    length = config.training.max_length
    train, counts = load_rows(data / "train.jsonl", template, length)
    if not counts.examples:
        raise DataError(
            f"{data}: no training example fits {length} tokens", "raise training.max_length"
        )
    if counts.truncated:
        console.notice(
            f"finetune: {counts.truncated} prompts were cut in their middle to fit {length} tokens"
        )
    splits = {"train": train}
    if (data / "validation.jsonl").is_file():
        validation, _ = load_rows(data / "validation.jsonl", template, length)
        if len(validation):
            splits["validation"] = validation
    return splits, counts


def _trainer_arguments(config: FinetuneConfig, folder: Path, device: str) -> "SFTConfig":
    """The trainer's arguments, every name checked against its own.

    Raises:
        ConfigError: `extra` holds a name that the trainer does not know, or a value it refuses.
    """
    with console.quiet():  # trl and peft import gptqmodel if it is installed: it prints a banner
        from trl import SFTConfig

    training = config.training.model_dump(exclude={"extra"})
    known = SFTConfig.__dataclass_fields__
    unknown = sorted(config.training.extra.keys() - known.keys())
    if unknown:
        raise ConfigError(
            f"finetune.training.extra: trl's SFTConfig has no option '{unknown[0]}'",
            "check its name",
        )
    dtype = pick_dtype(config.dtype, device)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    arguments: dict[str, Any] = {
        **training,
        "report_to": list(config.training.report_to),
        "output_dir": str(folder / "checkpoints"),
        "seed": config.seed,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "gradient_checkpointing": device != "cpu",
        "train_sampling_strategy": "group_by_length",
        "per_device_eval_batch_size": config.training.per_device_train_batch_size,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "dataloader_pin_memory": device != "cpu",
        **config.training.extra,
    }
    try:
        return SFTConfig(**arguments)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"finetune.training: {problem}", "mend the option") from problem


def _build_trainer(
    config: FinetuneConfig,
    base: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    splits: "dict[str, Dataset]",
    arguments: "SFTConfig",
) -> "SFTTrainer":
    from peft import LoraConfig
    from trl import SFTTrainer

    from medllm.finetune.progress import quiet_log, show_steps

    targets = config.lora.target_modules
    lora = LoraConfig(
        **config.lora.model_dump(exclude={"target_modules"}),
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        with console.quiet():
            trainer = SFTTrainer(
                base,
                arguments,
                train_dataset=splits["train"],
                eval_dataset=splits.get("validation"),
                processing_class=tokenizer,
                peft_config=lora,
            )
    except ValueError as problem:
        if "Target modules" not in str(problem):
            raise
        raise ConfigError(
            f"finetune.lora.target_modules: {targets} match no layer", "use all-linear"
        ) from problem
    quiet_log(trainer)
    trainer.add_callback(show_steps())
    return trainer


def _mean_loss(trainer: "SFTTrainer", reported: float) -> float:
    """The mean loss over all steps; what a resumed trainer reports leaves out those before."""
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return statistics.fmean(map(float, logged)) if logged else reported


def _newest_checkpoint(folder: Path, resume: bool) -> str | None:
    """The newest whole checkpoint: a torn one has no `trainer_state.json`."""
    states = list((folder / "checkpoints").glob("checkpoint-*/trainer_state.json"))
    if not states:
        return None
    if not resume:
        shutil.rmtree(folder / "checkpoints")
        return None
    newest = max(
        (state.parent for state in states), key=lambda path: int(path.name.rpartition("-")[2])
    )
    console.notice(f"finetune: going on from {newest.name}")
    return str(newest)


def _save(trainer: "SFTTrainer", model: ModelRef, folder: Path) -> None:
    adapter = trainer.model
    adapter.peft_config["default"].base_model_name_or_path = (
        model.ref if model.parent.kind == "hub" else model.location
    )
    adapter.save_pretrained(folder)
    # PEFT's own card; medllm writes one with the data terms
    (folder / "README.md").unlink(missing_ok=True)
    save_tokenizer(model, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
