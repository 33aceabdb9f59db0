"""The share of right labels, read off the trainer's own evaluations. Imports transformers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from medllm.finetune.rows.labels import Tokens, find_labels, right_labels
from medllm.models.chat.template import TokenizerTemplate

if TYPE_CHECKING:
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
