"""Looking at the trainer's own evaluations: labels, and whether a trial is worth its time.

Imports transformers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from medllm.finetune.rows.labels import Tokens, find_labels, right_labels
from medllm.models.chat import TokenizerTemplate

if TYPE_CHECKING:
    from optuna.trial import Trial
    from trl import SFTTrainer


def watch_labels(
    trainer: "SFTTrainer", data: Path, template: TokenizerTemplate
) -> "LabelAccuracy | None":
    """What measures label accuracy in the trainer's evaluations; None where there are no labels."""
    known = find_labels(data / "validation.jsonl", template)
    return LabelAccuracy(trainer, known) if known else None


class LabelAccuracy(TrainerCallback):  # type: ignore[misc]
    """The share of right labels in the newest evaluation.

    The trainer's fused head tells of each token whether it was the likeliest. That is read off the
    model's output as it goes by: no second pass, and no logits.
    """

    def __init__(self, trainer: "SFTTrainer", known: frozenset[Tokens]) -> None:
        self._known = known
        self._trainer = trainer
        self._seen: list[bool] = []
        self._newest: float | None = None
        trainer.model.register_forward_hook(self._look, with_kwargs=True)
        trainer.add_callback(self)

    def measure(self) -> float | None:
        """The share on validation rows; they are evaluated once more where training never did."""
        if self._newest is None:
            self._trainer.evaluate()
        return self._newest

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget what was seen of the untrained model."""
        self._newest = None

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close an evaluation."""
        import torch

        counts = torch.tensor([[sum(self._seen), len(self._seen)]], device=args.device)
        right, answers = self._trainer.accelerator.gather(counts).sum(0).tolist()
        self._newest = right / answers if answers else None
        self._seen = []

    def _look(self, model: Any, _: Any, given: dict[str, Any], output: Any) -> None:
        is_right = getattr(output, "is_top1", None)
        if model.training or is_right is None:
            return
        labels = given["labels"][:, 1:].tolist()
        for row, right in zip(labels, is_right.bool().tolist(), strict=True):
            self._seen += right_labels(row, right, self._known)


class Pruning(TrainerCallback):  # type: ignore[misc]
    """Tells a trial each validation loss, and ends it where others were better by then."""

    def __init__(self, trial: "Trial") -> None:
        self._trial = trial
        self._is_training = self._is_hopeless = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to watch: what is evaluated before is not trained."""
        self._is_training = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """Compare with the other trials after as many evaluations, between the first step and end.

        A checkpoint's log holds those before it, so that a trial that goes on counts them too.
        """
        if self._is_training and 0 < state.global_step < state.max_steps:
            number = sum("eval_loss" in log and log["step"] > 0 for log in state.log_history)
            self._trial.report(metrics["eval_loss"], number)
            self._is_hopeless = self._trial.should_prune()
            control.should_training_stop |= self._is_hopeless

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise TrialPruned where the trial was ended."""
        from optuna import TrialPruned

        self._is_training = False
        if self._is_hopeless:
            raise TrialPruned
