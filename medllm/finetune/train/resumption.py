"""What makes a resumed training the same as one that never stopped. Imports transformers."""

from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler


class SameOrder(TrainerCallback):  # type: ignore[misc]
    """Gives the rows of each epoch an order that follows from the seed and the epoch alone.

    The trainer groups rows of like length with torch's global generator: a training that is resumed
    in a later epoch, or another process of the same training, would draw another order from it.
    """

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Seed the sampler."""
        batches = train_dataloader.batch_sampler
        batches = getattr(batches, "batch_sampler", batches)  # those of all processes
        sampler: Any = getattr(batches, "sampler", None)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.generator = torch.Generator().manual_seed(args.seed + int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log before a checkpoint: a loss that is still summed up is not part of it."""
        control.should_log = control.should_log or control.should_save
