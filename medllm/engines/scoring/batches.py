"""Scoring in passes of so many tokens: rows sorted by length, common beginnings read once.

A pass of some hundred tokens takes a GPU as long as one of thousands: starting its kernels takes
longer than they run. Logits of a whole batch would take more memory than all else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from medllm import console
from medllm.engines.base import BLOCK_TOKENS
from medllm.engines.scoring.cache import takes_padding
from medllm.engines.scoring.passes import Read, Scored, read_trunk, score_forks, score_rows
from medllm.engines.scoring.prefixes import Row, Trunk, find_trunks
from medllm.models.hardware import free_memory_gib
from medllm.models.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
SHORT = "memory is short"
MOST_TOKENS = 16_384
"""Of a pass on a GPU: 8 billion parameters take an H100 a third of a second, so more fills it no
better."""
PROCESSOR_TOKENS = 1024
"""Of a pass on a processor: more leaves its caches, fewer fill no matrix."""
PROCESSOR_LOGITS = 2**26
"""Logits of a pass on a processor: 256 MiB."""
PROCESSOR_KEPT = 2**29
SHARE, KEPT_SHARE = 0.4, 0.2
"""Of the free memory, what a pass may take, and the keys and values that it goes on from; attention
and fragments take more than is counted."""
STATES, INNER, LOGITS = 10, 4, 3
"""Copies of a token's hidden states, of the inner ones of a feed-forward layer, and of its logits
that stand in memory at once."""
NEARLY = 0.9
"""The share of a trunk that is taken for it: by chance some rows have a word more in common."""
NATS = {4: (1e-3, 1e-4), 2: (0.3, 0.02)}
"""By how much a score may differ where its beginning was read apart, at least and as a share, by
the bytes of a number: rounding does more only where the model computes something else."""


def allowed_nats(model: Any) -> tuple[float, float]:
    """`NATS` of a model, whatever it is stored in; bitsandbytes computes 4 bits in 16."""
    is_rounded = getattr(model, "is_loaded_in_4bit", False)
    return NATS[2] if is_rounded else NATS.get(model.dtype.itemsize, NATS[2])


@dataclass
class Batches:
    """How large a pass is; it shrinks where memory is smaller than it seemed."""

    tokens: int
    """Padding included."""
    positions: int
    """Whose logits stand in memory at once."""
    kept: int = PROCESSOR_KEPT
    """Bytes of keys and values that a pass goes on from."""
    on_gpu: bool = True
    shares: bool = True
    """Whether common beginnings are read once; until a model shows that it cannot go on."""
    proven: set[tuple[bool, bool]] = field(default_factory=set)
    """With a trunk, with stems: where the model gave the same scores in both ways."""
    _last: tuple[tuple[int, ...], Read] = ((), Read())
    """The last trunk: the next rows often begin with it, too."""

    @classmethod
    def fitting(cls, model: "PreTrainedModel") -> Self:
        """What fits into the free memory of a loaded model's GPU."""
        config, width = model.config.get_text_config(), model.dtype.itemsize
        experts = getattr(config, "num_experts_per_tok", None) or 1
        dense = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        inner = max(dense, experts * (getattr(config, "moe_intermediate_size", None) or 0))
        free = free_memory_gib(model.device.type) * 2**30
        room = SHARE * free / 2
        tokens = int(room / width / (STATES * config.hidden_size + INNER * inner))
        positions = int(room / (width * LOGITS * config.vocab_size))
        blocks = min(positions, MOST_TOKENS) // BLOCK_TOKENS
        size = max(blocks, 1) * BLOCK_TOKENS
        return cls(min(max(tokens, 1), MOST_TOKENS), size, int(KEPT_SHARE * free))

    @classmethod
    def on_processor(cls, model: "PreTrainedModel") -> Self:
        """What a processor reads best; logits are read by blocks anyway."""
        vocabulary = model.config.get_text_config().vocab_size
        positions = max(PROCESSOR_LOGITS // vocabulary, 1)
        return cls(PROCESSOR_TOKENS, positions, on_gpu=False)

    def score(self, model: "PreTrainedModel", rows: Sequence[Row]) -> Scored:
        """The scores of what is asked of all rows, the longest rows first."""
        scores: Scored = {}
        for trunk in find_trunks(rows) if self.shares else [Trunk((), [*rows])]:
            found = self._score_together(model, trunk) if self.shares else None
            if found is None:
                found = self._score_rows(model, trunk.rows, Read())
            scores |= found
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

    def _score_together(self, model: "PreTrainedModel", trunk: Trunk) -> Scored | None:
        """The scores of rows with a common beginning, read once; None where the model cannot."""
        after = self._read_trunk(model, trunk)
        if after is not None:
            trunk = Trunk(trunk.prefix[: after.tokens], trunk.rows)
        whole, forks = trunk.forks()
        if after is None or ((trunk.prefix or forks) and not self._prove(model, trunk, after)):
            self.shares = False
            console.notice(
                "this model cannot go on from a beginning that it has read (a recurrent state, or "
                "an attention of its own): every prompt is read as a whole, which takes longer"
            )
            return None
        return {**self._score_rows(model, whole, after), **self._score_forks(model, forks, after)}

    def _read_trunk(self, model: "PreTrainedModel", trunk: Trunk) -> Read | None:
        """What is kept of a trunk, or of most of it, where the last one was that."""
        known, last = self._last
        if last.tokens > NEARLY * len(trunk.prefix) and trunk.prefix[: len(known)] == known:
            return last
        read = read_trunk(model, trunk.prefix)
        if read and read.tokens:
            self._last = (trunk.prefix, read)
        return read

    def _prove(self, model: "PreTrainedModel", trunk: Trunk, after: Read) -> bool:
        """Whether some rows have the same scores read whole and read on from what was read.

        It is shown once for a model: nothing else tells how an architecture counts positions.
        """
        whole, forks = trunk.forks()
        way = (bool(trunk.prefix), bool(forks))
        if way in self.proven:
            return True
        forks.sort(key=lambda rows: rows[0].stem)
        some = [*forks[:1], *forks[1:][-1:]]  # of unlike length, so that one is padded
        alone = [whole[0], whole[-1]] if trunk.prefix and whole else []
        rows = [*alone, *(row for rows in some for row in rows)]
        expected = self._score_rows(model, rows, Read())
        found = self._score_rows(model, alone, after)
        for batch in self._alike(model, some):
            scores = score_forks(model, batch, after, self.kept)
            if scores is None:
                return False
            found |= scores
        least, share = allowed_nats(model)
        for asked, score in found.items():
            told = expected[asked].logprob
            if not abs(score.logprob - told) <= least + share * abs(told):
                return False
        self.proven.add(way)
        return True

    def _score_rows(self, model: "PreTrainedModel", rows: Sequence[Row], after: Read) -> Scored:
        def width(row: Row) -> int:
            return len(row.ids) - after.tokens

        def is_full(batch: Sequence[Row]) -> bool:
            kept = after.bytes_a_token * len(batch) * len(batch[0].ids)
            asked = sum(row.asked for row in batch)
            too_wide = width(batch[0]) * len(batch) > self.tokens
            return too_wide or asked > self.positions or kept > self.kept

        return self._by_passes(
            sorted(rows, key=width), is_full, width, lambda batch: score_rows(model, batch, after)
        )

    def _score_forks(
        self, model: "PreTrainedModel", forks: Sequence[list[Row]], after: Read
    ) -> Scored:
        def width(rows: Sequence[Row]) -> int:
            return max(len(row.ids) for row in rows) - after.tokens

        def is_full(batch: Sequence[Sequence[Row]]) -> bool:
            endings = [len(row.ids) - row.stem for rows in batch for row in rows]
            read = max(width(batch[0]) * len(batch), max(endings) * len(endings))
            return read > self.tokens or len(batch) + sum(endings) > self.positions

        def read(batch: Sequence[list[Row]]) -> Scored:
            return score_forks(model, batch, after, self.kept) or {}

        scores: Scored = {}
        for alike in self._alike(model, forks):
            scores |= self._by_passes(sorted(alike, key=width), is_full, width, read)
        return scores

    def _alike(self, model: Any, forks: Sequence[list[Row]]) -> Iterator[list[list[Row]]]:
        """The forks that may be in one batch.

        All, or where no padding may stand behind a stem those of one length.
        """
        if takes_padding(model):
            yield from [[*forks]] if forks else []
            return
        for length in sorted({rows[0].stem for rows in forks}):
            yield [rows for rows in forks if rows[0].stem == length]

    def _by_passes(
        self,
        left: list[T],
        is_full: Callable[[Sequence[T]], bool],
        width: Callable[[T], int],
        read: Callable[[Sequence[T]], Scored],
    ) -> Scored:
        """The scores of all, which are sorted by width; from the widest on, as many as fit."""
        scores: Scored = {}
        while left:
            batch = [left[-1]]
            while len(batch) < len(left) and not is_full([*batch, left[-len(batch) - 1]]):
                batch.append(left[-len(batch) - 1])
            try:
                scores |= read(batch)
                del left[-len(batch) :]
                continue
            except RuntimeError as problem:
                if len(batch) == 1 or not is_out_of_memory(problem):
                    raise
            self.tokens = max(width(batch[0]) * len(batch) // 2, 1)
            console.notice(f"{SHORT}: {self.tokens:,} tokens are read at once from now on")
        return scores
