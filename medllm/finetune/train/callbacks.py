"""Watching a training: what it says, when it must stop. Imports transformers."""

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from medllm import console
from medllm.errors import ArtifactError
from medllm.finetune.train.distributed import is_true_anywhere
from medllm.finetune.train.sigterm import answer_sigterm

SECONDS_BETWEEN_LINES = 10.0
DIVERGED = 2.0
"""How many times the first loss of a training its loss may be, a few logs long, before it ends."""
PATIENCE_LOGS = 3
LOWER = "lower training.learning_rate; with float16, use bfloat16 or float32 (dtype)"


class Diverged(ArtifactError):
    """The loss broke."""


def check_finite(losses: Mapping[str, float | None], model: Any) -> None:
    """Raise Diverged where a loss or a trained weight is no number: such a model is not kept.

    There is no `model` where each process holds a part of it alone.
    """
    import torch

    for name, loss in losses.items():
        if loss is not None and not math.isfinite(loss):
            raise Diverged(f"the {name.replace('_', ' ')} is {loss}", LOWER)
    for name, weight in model.named_parameters() if model else ():
        if weight.requires_grad and not bool(torch.isfinite(weight.detach()).all()):
            raise Diverged(f"the trained weights hold NaN or infinite values: {name}", LOWER)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Says step, loss and time left; ends a training that broke; saves before SIGTERM ends it."""

    def __init__(self) -> None:
        self.terminated = False
        self._started = self._said = time.monotonic()
        self.first_step = 0
        self.seconds = 0.0
        """Of the training, without the evaluations before its first step and while it ran."""
        self.evaluation_seconds = 0.0
        self._first_loss: float | None = None
        self._bad_logs = 0
        self._handler: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._started = self._said = time.monotonic()
        self.first_step = state.global_step
        self._handler = answer_sigterm(self._terminate)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock, and give SIGTERM back."""
        self.seconds = time.monotonic() - self._started - self.evaluation_seconds
        answer_sigterm(self._handler)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        """Leave evaluations out; after the one before the first step the clock starts again."""
        if state.global_step == self.first_step:
            self._started = time.monotonic()
        else:
            self.evaluation_seconds += metrics["eval_runtime"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop where somebody asked for an end: all processes after the same step."""
        self.terminated = is_true_anywhere(self.terminated, args.device)
        if self.terminated:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Look at the loss.

        Raises:
            Diverged: it is no number, or rose far above where it began.
        """
        if "loss" not in (logs or {}):
            return
        loss, step = float(logs["loss"]), state.global_step
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at step {step}", LOWER)
        self._check_course(loss, step)
        self._say(loss, step, state.max_steps)

    def _terminate(self, *_: Any) -> None:
        console.notice("finetune: SIGTERM: saving a checkpoint after this step")
        self.terminated = True

    def _check_course(self, loss: float, step: int) -> None:
        if self._first_loss is None:
            self._first_loss = max(loss, 1.0)  # a loss near 0 doubles by chance
        self._bad_logs = self._bad_logs + 1 if loss > DIVERGED * self._first_loss else 0
        if self._bad_logs == PATIENCE_LOGS:
            raise Diverged(
                f"the training diverged: loss {console.rounded(loss, 3)} at step {step}, "
                f"{console.rounded(self._first_loss, 3)} at its beginning",
                "lower training.learning_rate, or raise training.warmup_steps",
            )

    def _say(self, loss: float, step: int, steps: int) -> None:
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        left = (now - self._started) / max(step - self.first_step, 1) * (steps - step)
        rest = f", {console.lasting(left)} left" if step < steps else ""
        console.notice(f"finetune: step {step} of {steps}, loss {loss:.3f}{rest}")
