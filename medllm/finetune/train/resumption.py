"""The order of rows, and what makes a resumed training the same as one that never stopped.

Imports transformers.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from medllm.ranks import count_processes


class MixedSteps(LengthGroupedSampler):  # type: ignore[misc]
    """Rows of like length in one step, and the steps in random order.

    The trainer's own order goes from the longest rows to the shortest, again and again. Where the
    length tells the answer (a longer note has more findings), it is the same for many steps then,
    and the model learns one answer after another instead of telling them apart. The longest rows
    still come first, so that too little memory shows at once.
    """

    def __init__(self, grouped: LengthGroupedSampler) -> None:
        super().__init__(grouped.batch_size, lengths=grouped.lengths)

    def __iter__(self) -> Iterator[int]:
        """The numbers of the rows; those of a step are of like length in all its processes."""
        order, rows = [*super().__iter__()], self.batch_size * count_processes()
        steps = [order[at : at + rows] for at in range(0, len(order), rows)]
        inner = steps[1:-1]  # the last one may be short
        drawn = torch.randperm(len(inner), generator=self.generator).tolist()
        return chain(*steps[:1], *(inner[i] for i in drawn), *steps[1:][-1:])


class SameOrder(TrainerCallback):  # type: ignore[misc]
    """Gives the rows of each epoch an order that follows from the seed and the epoch alone.

    The trainer groups rows of like length with torch's global generator: a training that is resumed
    in a later epoch, or another process of the same training, would draw another order from it.
    """

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Seed the sampler, and let it mix the steps."""
        batches = train_dataloader.batch_sampler
        batches = getattr(batches, "batch_sampler", batches)  # those of all processes
        sampler: Any = getattr(batches, "sampler", None)
        if isinstance(sampler, LengthGroupedSampler):
            if not isinstance(sampler, MixedSteps):
                sampler = batches.sampler = MixedSteps(sampler)
            sampler.generator = torch.Generator().manual_seed(args.seed + int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log before a checkpoint: a loss that is still summed up is not part of it."""
        control.should_log = control.should_log or control.should_save
