"""What a person sees of a training run."""

import time
from typing import TYPE_CHECKING, Any

from medllm import console

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import SFTTrainer

SECONDS = 10.0
"""Time between two lines."""


def show_steps() -> "TrainerCallback":
    """A callback that says step, loss and time left."""
    from transformers import TrainerCallback

    class ShowSteps(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.started = self.said = time.monotonic()
            self.first = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = self.said = time.monotonic()
            self.first = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            now = time.monotonic()
            if "loss" not in (logs or {}) or now - self.said < SECONDS:
                return
            self.said = now
            left = (
                (now - self.started)
                / (state.global_step - self.first)
                * (state.max_steps - state.global_step)
            )
            loss = float(logs["loss"])
            console.notice(
                f"finetune: step {state.global_step} of {state.max_steps}, "
                f"loss {loss:.3f}, {left:.0f} s left"
            )

    return ShowSteps()


def quiet_log(trainer: "SFTTrainer") -> None:
    """Take away the callback that prints every log as a dictionary."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
