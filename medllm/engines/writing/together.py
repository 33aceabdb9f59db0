"""Many answers together: rows padded on the left, of which each ends by itself."""

import inspect
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.engines.base import Piece
from medllm.engines.scoring.batches import Batches, allowed_nats
from medllm.engines.scoring.cache import bytes_kept, is_attention_alone
from medllm.engines.scoring.passes import read_at
from medllm.engines.writing.alone import base_of
from medllm.engines.writing.rows import Row, plan_batches
from medllm.models.hardware import free_memory_gib
from medllm.models.memory import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAD = 0  # no token sees it
PROCESSOR_ROWS, GPU_ROWS = 8, 64
PROCESSOR_TOKENS = 8192
"""Of prompts that a processor reads in a pass; a GPU's passes are as large as where it scores."""
KEPT_SHARE, MOST_GIB = 0.2, 64.0
"""Of the free memory, what keys and values may take; and what is free where that is unknown."""
TRIED_TOKENS = 32

Pieces = Generator[tuple[int, Piece]]
"""Each with the place of its request."""


@dataclass
class Together:
    """Writes answers together with a model; whether it can shows once."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    ends: Collection[int]
    """Tokens that end an answer."""
    most_rows: int
    pass_tokens: int
    _token_bytes: float | None = None
    """What the keys and values of a token take; 0 where rows cannot be padded."""

    @classmethod
    def with_model(
        cls,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        ends: Collection[int],
        batches: Batches,
    ) -> "Together":
        """As many rows and tokens at once as the device of a loaded model takes well."""
        sizes = (GPU_ROWS, batches.tokens) if batches.on_gpu else (PROCESSOR_ROWS, PROCESSOR_TOKENS)
        return cls(model, tokenizer, ends, *sizes)

    def is_able(self, prompt: Sequence[int]) -> bool:
        """Whether rows can be padded; tried with the beginning of a prompt, once."""
        if self._token_bytes is None:
            self._token_bytes = try_padding(self.model, prompt[:TRIED_TOKENS])
            if not self._token_bytes:
                self.most_rows = 1
                console.notice(
                    "this model cannot write answers together (a recurrent state, or an attention "
                    "of its own): they are written one after another, which takes longer"
                )
        return self._token_bytes > 0

    def write(self, rows: Sequence[Row]) -> Pieces:
        """The pieces of all answers as they come."""
        free = min(free_memory_gib(self.model.device.type), MOST_GIB) * 2**30
        kept = int(KEPT_SHARE * free / (self._token_bytes or 1))
        for batch in plan_batches(rows, self.most_rows, self.pass_tokens, kept):
            yield from self._write_halving(batch)

    def _write_halving(self, rows: list[Row]) -> Pieces:
        """A batch, or where memory is too short for its prompts one half after the other."""
        pieces = self._write_batch(rows)
        try:
            first = next(pieces)
        except RuntimeError as problem:
            if len(rows) == 1 or not is_out_of_memory(problem):
                raise
            self.most_rows = half = len(rows) // 2
        else:
            yield first
            yield from pieces
            return
        console.notice(f"memory is short: {half} answers are written together from now on")
        yield from self._write_halving(rows[:half])
        yield from self._write_halving(rows[half:])

    def _write_batch(self, rows: list[Row]) -> Pieces:
        import torch

        for row in rows:
            row.begin(self.tokenizer, self.ends)
        batch = _Batch(self.model, [row.prompt for row in rows])
        while True:
            with torch.inference_mode():
                logits = batch.read()
                likeliest = logits.argmax(-1).tolist()
                tokens = [row.choose(likeliest[n], logits[n : n + 1]) for n, row in enumerate(rows)]
                logprobs = _likelihoods(logits, tokens)
            going: list[int] = []
            for number, row in enumerate(rows):
                piece = row.take(tokens[number], logprobs[number])
                if piece.finish_reason is None:
                    going.append(number)
                yield row.place, piece
            if not going:
                return
            rows = [rows[number] for number in going]
            batch.go_on([tokens[number] for number in going], going)


def _likelihoods(logits: "torch.Tensor", tokens: Sequence[int]) -> list[float]:
    """The log-likelihood of one token of each row."""
    import torch

    at = torch.tensor(tokens, device=logits.device)[:, None]
    found: list[float] = (logits.gather(1, at)[:, 0] - logits.logsumexp(-1)).tolist()
    return found


class _Batch:
    """Rows that a model reads, and goes on from, together."""

    def __init__(self, model: Any, rows: Sequence[Sequence[int]]) -> None:
        import torch

        longest = max(map(len, rows))
        padded = [[PAD] * (longest - len(row)) + list(row) for row in rows]
        seen = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        self._model = model
        self._next = torch.tensor(padded, device=model.device)
        self._mask = torch.tensor(seen, device=model.device)
        self.cache: Any = None
        taken = inspect.signature(base_of(model).forward).parameters
        self._takes_positions = "position_ids" in taken

    def read(self) -> "torch.Tensor":
        """The logits of what follows each row, shape (rows, vocabulary), float32."""
        count, width = self._next.shape
        given: dict[str, Any] = {"attention_mask": self._mask, "use_cache": True}
        if self._takes_positions:
            positions = self._mask.cumsum(-1).sub(1).clamp(min=0)
            given["position_ids"] = positions[:, -width:]
        if self.cache is not None:
            given["past_key_values"] = self.cache
        ends = [row * width + width - 1 for row in range(count)]
        logits, self.cache = read_at(self._model, self._next, ends, **given)
        return logits.float()

    def go_on(self, tokens: Sequence[int], kept: Sequence[int]) -> None:
        """Take the next token of each row that is kept, and forget the other rows."""
        import torch

        device = self._mask.device
        with torch.inference_mode():
            if len(kept) < len(self._mask):
                chosen = torch.tensor(kept, device=device)
                self.cache.batch_select_indices(chosen)
                self._mask = self._mask[chosen]
            self._next = torch.tensor([[token] for token in tokens], device=device)
            self._mask = torch.cat([self._mask, torch.ones_like(self._next)], dim=-1)


def try_padding(model: Any, prompt: Sequence[int]) -> float:
    """The bytes that a token's keys and values take in a model that padding leaves alone, else 0.

    A short row is read and gone on from beside a longer one, and read alone: nothing else tells
    how an architecture counts positions.
    """
    import torch

    short, long = list(prompt[: len(prompt) // 2 + 1]), list(prompt) * 2
    batch = _Batch(model, [long, short])
    first = batch.read().argmax(-1).tolist()
    if not is_attention_alone(batch.cache):
        return 0.0
    taken = bytes_kept(batch.cache) / (2 * len(long))
    batch.go_on(first, [0, 1])
    found = batch.read()[1].log_softmax(-1)
    ids = torch.tensor([[*short, first[1]]], device=model.device)
    alone, _ = read_at(model, ids, [len(short)], use_cache=False)
    expected = alone[0].float().log_softmax(-1)
    top = expected.topk(min(8, len(expected))).indices
    least, share = allowed_nats(model)
    allowed = least + share * expected[top].abs()
    return taken if bool(((found - expected)[top].abs() <= allowed).all()) else 0.0
