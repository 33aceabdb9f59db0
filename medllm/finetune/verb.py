"""The finetune verb."""

import os
import shutil
import signal
import statistics
import time
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input, open_output
from medllm.artifacts.manifest import Counts, Manifest
from medllm.errors import ConfigError, DataError, SetupError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.report import Course, perplexity_of, write_report
from medllm.finetune.rows import RowCounts, load_rows
from medllm.finetune.tokenizer import Tokenizer
from medllm.models.chat import TokenizerTemplate
from medllm.models.hardware import peak_memory_gib, pick_device, pick_dtype
from medllm.models.load import ModelRef, load_as_stored, load_causal_lm, resolve_model

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.trainer_utils import TrainOutput
    from trl import SFTConfig, SFTTrainer

    from medllm.finetune.course import Watch

OURS = {"extra", "early_stopping_patience"}
"""Of the training's options, those that the trainer has none of."""


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
    tokenizer = Tokenizer.open(config, model)
    splits, counts = _load_splits(config, TokenizerTemplate(tokenizer.own), data.path)
    arguments = _trainer_arguments(config, folder, device, can_evaluate="eval_dataset" in splits)
    base = _load_base(config, model, device)
    tokenizer.fit(base)
    trainer = _build_trainer(config, base, tokenizer.own, splits, arguments)
    before = trainer.evaluate()["eval_loss"] if "eval_dataset" in splits else None
    losses, watch = _run(trainer, config, folder)
    after = _evaluate(trainer, config) if "eval_dataset" in splits else {}
    _save(trainer, model, folder)
    tokenizer.save(base, folder)
    runtime = losses.metrics["train_runtime"]
    trained = (p.numel() for p in trainer.model.parameters() if p.requires_grad)
    results = {
        "train_loss": _mean_loss(trainer, losses.training_loss),
        "validation_loss_before": before,
        "validation_loss": after.get("eval_loss"),
        "validation_perplexity": perplexity_of(after.get("eval_loss")),
        "validation_token_accuracy": after.get("eval_mean_token_accuracy"),
        "steps": losses.global_step,
        "trainable_parameters": sum(trained),
        "seconds": round(time.monotonic() - started, 1),
        "training_seconds": round(runtime, 1),
        "tokens_per_second": counts.tokens
        * _passes(trainer, watch)
        / losses.metrics["train_runtime"],
        "total_flos": losses.metrics.get("total_flos"),
        "peak_memory_gib": peak_memory_gib(device),
        "rows": asdict(counts),
    }
    write_report(Course.of(trainer.state.log_history, before), results, folder)
    rejected = {"answer longer than max_length": counts.too_long} if counts.too_long else {}
    return Outcome(Counts(examples=counts.examples, rejected=rejected), results, device)


def _load_base(config: FinetuneConfig, model: ModelRef, device: str) -> "PreTrainedModel":
    """The base that the adapter is trained on.

    Raises:
        SetupError: it is to be rounded, and bitsandbytes is not installed.
    """
    if config.quantization is None:
        return load_causal_lm(model.location, dtype=config.dtype, device=device)
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise SetupError("QLoRA needs bitsandbytes", "pip install 'medllm[bnb]'")
    rounding = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        # Dettmers et al. 2023; a GPU without bfloat16 computes in float16
        bnb_4bit_compute_dtype="float16" if _lacks_bfloat16(device) else "bfloat16",
    )
    return load_as_stored(model.location, quantization_config=rounding, device_map={"": device})


def _lacks_bfloat16(device: str) -> bool:
    return device != "cpu" and pick_dtype("auto", device) == "float16"


def _run(
    trainer: "SFTTrainer", config: FinetuneConfig, folder: Path
) -> "tuple[TrainOutput, Watch]":
    """Train to the end.

    Raises:
        SetupError: the GPU's memory is too small.
        SystemExit: SIGTERM came; a checkpoint is there.
    """
    import torch

    from medllm.finetune.course import Watch

    watch = Watch()
    trainer.add_callback(watch)
    try:
        losses = trainer.train(resume_from_checkpoint=_newest_checkpoint(folder, config.resume))
    except torch.OutOfMemoryError as problem:
        size = config.training.per_device_train_batch_size
        raise SetupError(
            f"the GPU has too little memory for {size} examples of up to "
            f"{config.training.max_length} tokens at once",
            "halve training.per_device_train_batch_size and double gradient_accumulation_steps; "
            "or lower max_length; or add training.extra.auto_find_batch_size: true",
        ) from problem
    if watch.terminated:
        console.notice("finetune: a checkpoint is saved; the same command goes on from it")
        raise SystemExit(128 + signal.SIGTERM)
    return losses, watch


def _evaluate(trainer: "SFTTrainer", config: FinetuneConfig) -> dict[str, float]:
    """The scores on validation rows at the end, read from the log if they stand there already."""
    last = next(log for log in reversed(trainer.state.log_history) if "eval_loss" in log)
    kept_best = config.training.early_stopping_patience is not None
    if last["step"] < trainer.state.global_step or kept_best:
        return dict(trainer.evaluate())
    return dict(last)


def _passes(trainer: "SFTTrainer", watch: "Watch") -> float:
    """Passes over the training rows that this run made, not counting one that it went on from."""
    first = watch.first_step / max(trainer.state.global_step, 1)
    return float((trainer.state.epoch or 0) * (1 - first))


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


def _trainer_arguments(
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
    dtype = pick_dtype(config.dtype, device)
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
        **(_stopping_early(config) if can_evaluate else {}),
        **extra,
    }
    try:
        return SFTConfig(**arguments)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"finetune.training: {problem}", "mend the option") from problem


def _stopping_early(config: FinetuneConfig) -> dict[str, Any]:
    """The arguments that keep the best weights."""
    if config.training.early_stopping_patience is None:
        return {}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    return {**best, "save_steps": config.training.eval_steps}


def _build_trainer(
    config: FinetuneConfig,
    base: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    splits: "dict[str, Dataset]",
    arguments: "SFTConfig",
) -> "SFTTrainer":
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback, PrinterCallback
    from trl import SFTTrainer

    lora = LoraConfig(**config.lora.model_dump(mode="json"), task_type="CAUSAL_LM")
    try:
        with console.quiet():
            trainer = SFTTrainer(
                base, arguments, **splits, processing_class=tokenizer, peft_config=lora
            )
    except ValueError as problem:
        where = "finetune.lora.target_modules"
        if "Target modules" in str(problem):
            message = f"{where}: {config.lora.target_modules} match no layer"
            raise ConfigError(message, "use all-linear") from problem
        if "PEFT adapter to `lm_head`" in str(problem):
            message = f"{where}: an adapter on lm_head would never be trained"
            raise ConfigError(message, "train it whole: lora.modules_to_save") from problem
        raise
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dictionary
    if (patience := config.training.early_stopping_patience) and "eval_dataset" in splits:
        trainer.add_callback(EarlyStoppingCallback(patience))
    return trainer


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
