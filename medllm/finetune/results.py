"""What came of a training: losses, speed, and the files that stay."""

import shutil
import statistics
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm.finetune.base_name import write_base_name
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.material import Material
from medllm.finetune.train.distributed import is_sharded, save_weights
from medllm.finetune.train.moe import of_answers, restore_router
from medllm.measures.intervals import exponential
from medllm.models.weights import read_weights, stored_dtype
from medllm.ranks import count_processes, is_main

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers.trainer_utils import TrainOutput
    from trl import SFTTrainer

    from medllm.finetune.train.callbacks import Watch


def loss_before(trainer: "SFTTrainer") -> float | None:
    """The loss on validation rows before the first step, whichever run of the training made it."""
    history = trainer.state.log_history
    found = (log for log in history if log["step"] == 0 and "eval_loss" in log)
    return next((float(log["eval_loss"]) for log in found), None)


def evaluate(trainer: "SFTTrainer", config: FinetuneConfig) -> dict[str, float]:
    """The scores on validation rows at the end, read from the log if they stand there already."""
    if trainer.eval_dataset is None:
        return {}
    last = next(log for log in reversed(trainer.state.log_history) if "eval_loss" in log)
    kept_best = config.training.early_stopping_patience is not None
    if last["step"] < trainer.state.global_step or kept_best:
        last = trainer.evaluate()
    return dict(last)


def summarize_training(
    trainer: "SFTTrainer", losses: "TrainOutput", after: dict[str, float]
) -> dict[str, Any]:
    """Losses in nats per token, and what follows from them; None where there are no such rows."""
    loss = after.get("eval_loss")
    return {
        "train_loss": _mean_loss(trainer, losses.training_loss),
        "validation_loss_before": loss_before(trainer),
        "validation_loss": loss,
        "validation_perplexity": None if loss is None else exponential(loss),
        "validation_token_accuracy": after.get("eval_mean_token_accuracy"),
    }


def check_ended_well(trainer: "SFTTrainer", known: Mapping[str, Any]) -> None:
    """Raise Diverged unless the losses and the trained weights are numbers."""
    from medllm.finetune.train.callbacks import check_finite

    losses = {name: known[name] for name in ("train_loss", "validation_loss")}
    check_finite(losses, None if is_sharded(trainer) else trainer.model)


def _mean_loss(trainer: "SFTTrainer", reported: float) -> float:
    """The mean loss over all steps; what a resumed trainer reports leaves out those before."""
    logged = [of_answers(trainer, log) for log in trainer.state.log_history if "loss" in log]
    steps = [0, *(log["step"] for log in logged)]
    weights = [after - before for before, after in pairwise(steps)]
    return statistics.fmean([float(log["loss"]) for log in logged], weights) if logged else reported


def cost(
    trainer: "SFTTrainer", losses: "TrainOutput", watch: "Watch", tokens: int
) -> dict[str, Any]:
    """What the training took, all processes together, without evaluations; `tokens` of a pass."""
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    return {
        "steps": losses.global_step,
        # ds_numel: what ZeRO-3 calls the size of a parameter that lies elsewhere
        "trainable_parameters": sum(getattr(p, "ds_numel", p.numel()) for p in trained),
        "processes": count_processes(),
        "training_seconds": round(watch.seconds, 1),
        "evaluation_seconds": round(watch.evaluation_seconds, 1),
        "steps_per_second": (losses.global_step - watch.first_step) / watch.seconds,
        "tokens_per_second": tokens * _passes(trainer, watch) / watch.seconds,
        "total_flos": losses.metrics.get("total_flos"),
        "packed": trainer.args.packing,
    }


def _passes(trainer: "SFTTrainer", watch: "Watch") -> float:
    """Passes over the training rows that this run made, not counting a run that it resumed."""
    first = watch.first_step / max(trainer.state.global_step, 1)
    return float((trainer.state.epoch or 0) * (1 - first))


def save(trainer: "SFTTrainer", material: Material, folder: Path) -> None:
    """Write the adapter or the model, and what belongs beside it; called in all processes."""
    import torch

    trained, model = trainer.model, material.inputs.model
    if hasattr(trained, "peft_config"):
        _sort_names(trained.peft_config["default"])
    elif not is_sharded(trainer):
        restore_router(trained, model)
        # in the format of the base's files, whatever the training computed in
        trained.to(getattr(torch, stored_dtype(read_weights(model.path).values())))
    save_weights(trainer, folder)
    if not is_main():
        return
    # PEFT's own card; medllm writes one with the data terms
    (folder / "README.md").unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    material.tokenizer.save(folder)
    if hasattr(trained, "peft_config"):
        write_base_name(folder, model)


def _sort_names(settings: "LoraConfig") -> None:
    """One order of the names in the file: PEFT keeps them in sets, which have one a process."""
    for name, value in vars(settings).items():
        if isinstance(value, set):
            setattr(settings, name, sorted(value))
