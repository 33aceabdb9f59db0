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
from medllm.artifacts.lineage import Input, open_output
from medllm.artifacts.manifest import Counts, Manifest
from medllm.errors import ConfigError, DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows import RowCounts, load_rows
from medllm.finetune.tokenizer import Tokenizer
from medllm.models.chat import TokenizerTemplate
from medllm.models.hardware import pick_device, pick_dtype
from medllm.models.load import ModelRef, load_causal_lm, resolve_model

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTConfig, SFTTrainer

SECONDS_BETWEEN_LINES = 10.0


def finetune(config: FinetuneConfig) -> Manifest:
    """An adapter: PEFT's files with the tokenizer beside them, and TensorBoard logs under `logs/`.

    An interrupted run goes on from its newest whole checkpoint.

    Raises:
        ConfigError: nothing to train on is named, or an option the trainer does not know.
        ArtifactError: the model or the dataset is missing, altered or of another kind.
    """
    if config.data is None:
        fix = "--data DIR, a folder that `medllm prepare` wrote"
        raise ConfigError("no training data are named", fix)
    data = open_output(config.data, "prepare", "train.jsonl", "training data")
    model = resolve_model(config.model, kinds=("model",))
    job = Job.of(config, "adapter", "finetune", "lora", model, data)
    return produce(job, partial(_train, config, model, data))


def _train(config: FinetuneConfig, model: ModelRef, data: Input, folder: Path) -> Outcome:
    started = time.monotonic()
    device = pick_device()
    arguments = _trainer_arguments(config, folder, device)
    tokenizer = Tokenizer.open(config, model)
    splits, counts = _load_splits(config, TokenizerTemplate(tokenizer.own), data.path)
    base = load_causal_lm(model.location, dtype=config.dtype, device=device)
    tokenizer.fit(base)
    trainer = _build_trainer(config, base, tokenizer.own, splits, arguments)
    before = trainer.evaluate()["eval_loss"] if "eval_dataset" in splits else None
    losses = trainer.train(resume_from_checkpoint=_newest_checkpoint(folder, config.resume))
    after = trainer.evaluate()["eval_loss"] if "eval_dataset" in splits else None
    _save(trainer, model, folder)
    tokenizer.save(base, folder)
    trained = (p.numel() for p in trainer.model.parameters() if p.requires_grad)
    results = {
        "train_loss": _mean_loss(trainer, losses.training_loss),
        "validation_loss_before": before,
        "validation_loss": after,
        "steps": losses.global_step,
        "trainable_parameters": sum(trained),
        "seconds": round(time.monotonic() - started, 1),
        "rows": asdict(counts),
    }
    rejected = {"answer longer than max_length": counts.too_long} if counts.too_long else {}
    return Outcome(Counts(examples=counts.examples, rejected=rejected), results, device)


def _load_splits(
    config: FinetuneConfig, template: TokenizerTemplate, data: Path
) -> "tuple[dict[str, Dataset], RowCounts]":
    """The trainer's `train_dataset` and, where there are validation rows, `eval_dataset`."""
    length = config.training.max_length
    train, counts = load_rows(data / "train.jsonl", template, length)
    if not counts.examples:
        message = f"{data}: no training example fits {length} tokens"
        raise DataError(message, "raise training.max_length")
    if counts.truncated:
        cut = f"{counts.truncated} prompts were cut in their middle"
        console.notice(f"finetune: {cut} to fit {length} tokens")
    splits = {"train_dataset": train}
    if (data / "validation.jsonl").is_file():
        validation, _ = load_rows(data / "validation.jsonl", template, length)
        if len(validation):
            splits["eval_dataset"] = validation
    return splits, counts


def _trainer_arguments(config: FinetuneConfig, folder: Path, device: str) -> "SFTConfig":
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
    dtype = pick_dtype(config.dtype, device)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    arguments: dict[str, Any] = {
        **config.training.model_dump(mode="json", exclude={"extra"}),
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
        **extra,
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
    from transformers import PrinterCallback
    from trl import SFTTrainer

    lora = LoraConfig(**config.lora.model_dump(mode="json"), task_type="CAUSAL_LM")
    try:
        with console.quiet():
            trainer = SFTTrainer(
                base, arguments, **splits, processing_class=tokenizer, peft_config=lora
            )
    except ValueError as problem:
        if "Target modules" not in str(problem):
            raise
        message = f"finetune.lora.target_modules: {config.lora.target_modules} match no layer"
        raise ConfigError(message, "use all-linear") from problem
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dictionary
    trainer.add_callback(_show_steps())
    return trainer


def _show_steps() -> "TrainerCallback":
    """A callback that says step, loss and time left."""
    from transformers import TrainerCallback

    class ShowSteps(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = self.said = time.monotonic()
            self.first = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            now = time.monotonic()
            if "loss" not in (logs or {}) or now - self.said < SECONDS_BETWEEN_LINES:
                return
            self.said = now
            step, steps = state.global_step, state.max_steps
            left = (now - self.started) / (step - self.first) * (steps - step)
            loss = float(logs["loss"])
            console.notice(f"finetune: step {step} of {steps}, loss {loss:.3f}, {left:.0f} s left")

    return ShowSteps()


def _mean_loss(trainer: "SFTTrainer", reported: float) -> float:
    """The mean loss over all steps; what a resumed trainer reports leaves out those before."""
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return statistics.fmean(map(float, logged)) if logged else reported


def _newest_checkpoint(folder: Path, resume: bool) -> str | None:
    """The newest whole checkpoint: a torn one has no `trainer_state.json`."""
    if not resume:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    states = (folder / "checkpoints").glob("checkpoint-*/trainer_state.json")
    whole = {int(state.parent.name.rpartition("-")[2]): state.parent for state in states}
    if whole:
        console.notice(f"finetune: going on from checkpoint-{max(whole)}")
    return str(whole[max(whole)]) if whole else None


def _save(trainer: "SFTTrainer", model: ModelRef, folder: Path) -> None:
    adapter = trainer.model
    base = model.ref if model.parent.kind == "hub" else model.location
    adapter.peft_config["default"].base_model_name_or_path = base
    adapter.save_pretrained(folder)
    # PEFT's own card; medllm writes one with the data terms
    (folder / "README.md").unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
