"""Scoring on a GPU: passes that fill it, logits where they are asked for, and few transfers.

A pass of some hundred tokens takes a GPU as long as one of thousands: starting its kernels takes
longer than they run. Logits of a whole batch would take more memory than all else.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from medllm import console
from medllm.engines.base import BLOCK_TOKENS, Score, ScoreRequest
from medllm.models.hardware import free_memory_gib
from medllm.models.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

T = TypeVar("T")
SHORT = "the GPU is short of memory"
MOST_TOKENS = 16_384
"""Of a pass: 8 billion parameters take an H100 a third of a second, so more fills it no better."""
SHARE = 0.4
"""Of the free memory, what a pass may take; attention and fragments take more than is counted."""
STATES, INNER, LOGITS = 10, 4, 3
"""Copies of a token's hidden states, of the inner ones of a feed-forward layer, and of its logits
that stand in memory at once."""
WORK_NUMBERS = 2**26
"""Logits that are worked on in float32 at once: 256 MiB."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the model is given, and what is asked of its end; one or more continuations."""

    ids: tuple[int, ...]
    requests: tuple[ScoreRequest, ...]

    @property
    def asked(self) -> int:
        """How many of its last positions somebody asks for."""
        longest = max(len(request.continuation) for request in self.requests)
        return min(longest, len(self.ids))


@dataclass
class Batches:
    """How large a pass is; it shrinks where memory is smaller than it seemed."""

    tokens: int
    """Padding included."""
    positions: int
    """Whose logits stand in memory at once."""

    @classmethod
    def fitting(cls, model: "PreTrainedModel") -> Self:
        """What fits into the free memory of a loaded model's GPU."""
        config, width = model.config.get_text_config(), model.dtype.itemsize
        experts = getattr(config, "num_experts_per_tok", None) or 1
        dense = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        inner = max(dense, experts * (getattr(config, "moe_intermediate_size", None) or 0))
        room = SHARE * free_memory_gib(model.device.type) * 2**30 / 2
        tokens = int(room / width / (STATES * config.hidden_size + INNER * inner))
        positions = int(room / (width * LOGITS * config.vocab_size))
        blocks = min(positions, MOST_TOKENS) // BLOCK_TOKENS
        return cls(min(max(tokens, 1), MOST_TOKENS), max(blocks, 1) * BLOCK_TOKENS)

    def score(self, model: "PreTrainedModel", rows: Sequence[Row]) -> dict[ScoreRequest, Score]:
        """The scores of what is asked of all rows, the longest rows first."""
        left = sorted(rows, key=lambda row: len(row.ids))
        scores: dict[ScoreRequest, Score] = {}
        while left:
            batch = self._take(left)
            try:
                scores |= _score(model, batch)
                del left[-len(batch) :]
                continue
            except RuntimeError as problem:
                if len(batch) == 1 or not is_out_of_memory(problem):
                    raise
            self.tokens = max(len(batch[0].ids) * len(batch) // 2, 1)
            console.notice(f"{SHORT}: {self.tokens:,} tokens are read at once from now on")
        return scores

    def halving(self, read: Callable[[], Iterator[T]]) -> Iterator[T]:
        """What `read()` yields; where memory is short for its first step, that is made smaller."""
        while True:
            has_begun = False
            try:
                for each in read():
                    has_begun = True
                    yield each
                return
            except RuntimeError as problem:
                if has_begun or self.positions <= BLOCK_TOKENS or not is_out_of_memory(problem):
                    raise
            self.positions = max(self.positions // 2 // BLOCK_TOKENS, 1) * BLOCK_TOKENS
            console.notice(f"{SHORT}: {self.positions:,} positions are read at once from now on")

    def _take(self, rows: Sequence[Row]) -> list[Row]:
        """The last rows, which are the longest, as many as a pass may have."""
        longest, batch, asked = len(rows[-1].ids), [rows[-1]], rows[-1].asked
        for row in reversed(rows[:-1]):
            asked += row.asked
            if longest * (len(batch) + 1) > self.tokens or asked > self.positions:
                break
            batch.append(row)
        return batch


def _score(model: "PreTrainedModel", batch: Sequence[Row]) -> dict[ScoreRequest, Score]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    # no mask: no token sees the padding, which comes after it
    ids = pad_sequence([torch.tensor(row.ids) for row in batch], batch_first=True)
    where, at, targets, sizes = (list[int]() for _ in range(4))
    for number, row in enumerate(batch):
        end = number * ids.shape[1] + len(row.ids)
        where += range(end - row.asked, end)
        for request in row.requests:
            sizes.append(min(len(request.continuation), len(row.ids)))
            at += range(len(where) - sizes[-1], len(where))
            targets += request.continuation[-sizes[-1] :]
    chosen, hits = read_targets(logits_at(model, ids, where), at, targets)
    asked = (request for row in batch for request in row.requests)
    return {
        request: Score(
            float(chosen[end - size : end].sum()), size, bool(hits[end - size : end].all())
        )
        for request, size, end in zip(asked, sizes, np.cumsum(sizes), strict=True)
    }


def logits_at(
    model: "PreTrainedModel", ids: "torch.Tensor", where: Sequence[int]
) -> "torch.Tensor":
    """The logits (positions, vocabulary) at some positions of a batch, counted row after row."""
    import torch

    picked = torch.tensor(where).to(model.device)
    with torch.inference_mode(), _picking(model, picked):
        logits = model(input_ids=ids.to(model.device), use_cache=False).logits.flatten(0, 1)
        return logits if len(logits) == len(where) else logits[picked]


@contextmanager
def _picking(model: Any, where: "torch.Tensor") -> Iterator[None]:
    """Meanwhile the head of a model computes logits at some positions alone."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model

    def pick(_: Any, __: Any, outputs: Any) -> Any:
        outputs.last_hidden_state = outputs.last_hidden_state.flatten(0, 1)[where][None]
        return outputs

    body = whole.base_model
    hook = body.register_forward_hook(pick) if body is not whole else None
    try:
        yield
    finally:
        if hook:
            hook.remove()


def read_targets(
    logits: "torch.Tensor", at: Sequence[int], targets: Sequence[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The log-likelihood of each target at its place, and whether it is the likeliest token."""
    import torch

    norms, best = [], []
    for part in logits.split(max(1, WORK_NUMBERS // logits.shape[1])):
        norms.append(part.float().logsumexp(-1))
        best.append(part.argmax(-1))
    places, tokens = torch.tensor([at, targets], dtype=torch.long).to(logits.device)
    chosen = logits[places, tokens].float() - torch.cat(norms)[places]
    hits = torch.cat(best)[places] == tokens
    values, is_best = torch.stack([chosen, hits.float()]).cpu().numpy()
    return values.astype(np.float64), is_best > 0
