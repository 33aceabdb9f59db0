"""Calibration sets that hold the same number of tokens, whatever their text."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input, open_output
from medllm.artifacts.manifest import Counts
from medllm.data.example import read_jsonl, write_jsonl
from medllm.data.fit import SEPARATOR, Tokens
from medllm.errors import DataError
from medllm.models.chat.tokens import TokenCounter
from medllm.models.load import ModelRef, load_tokenizer
from medllm.study.config import SetConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = "calibration.jsonl"
LONGEST_TOKEN = 32
"""Characters of text looked at for each token of a window."""
NEAR = 8
"""Ends tried around the wanted one: cut off, the last word may become other tokens."""
SPARE = 4
"""So many times the random tokens that are needed: as text they may become fewer."""


def build_set(config: SetConfig, model: ModelRef, calibration: Path | None) -> Input:
    """A set of `windows` × `window_tokens` tokens, of a calibration set's texts in their order.

    Raises:
        DataError: the texts are too few.
    """
    source = open_output(calibration, "calibrate", TEXTS, "calibration") if calibration else None
    job = Job.of(config, "calibration", "study", "jsonl", *([source] if source else [model]))
    produce(job, partial(_build, config, model, source))
    assert config.output is not None
    return open_output(config.output, "calibrate", TEXTS, "calibration")


def _build(config: SetConfig, model: ModelRef, source: Input | None, folder: Path) -> Outcome:
    tokenizer = load_tokenizer(model.location)
    needed = config.windows * config.window_tokens
    if source:
        rows = list(read_jsonl(source.path / TEXTS))
    else:
        text = draw_random_text(tokenizer, SPARE * needed, config.seed)
        rows = [{"id": "random", "source": "random tokens", "text": text}]
    counter, size = TokenCounter(tokenizer), config.window_tokens
    windows = list(_cut_rows(rows, counter, size, config.windows))
    if len(windows) < config.windows:
        found = f"{len(windows)} windows of {size} tokens, not {config.windows}"
        raise DataError(f"{folder.parent}: the texts make {found}", "raise calibrate.samples")
    write_jsonl(folder / TEXTS, windows)
    sources = dict(Counter(row["source"] for row in windows).most_common())
    return Outcome(Counts(examples=len(windows)), {"sources": sources, "tokens": needed})


def _cut_rows(
    rows: list[dict[str, Any]], counter: Tokens, size: int, count: int
) -> Iterator[dict[str, Any]]:
    """Windows of the joined texts; the source of a window is that of its first text."""
    whole = SEPARATOR.join(row["text"] for row in rows)
    lengths = [len(row["text"]) + len(SEPARATOR) for row in rows]
    begins = np.cumsum([0, *lengths[:-1]])
    for number, (begin, end) in enumerate(cut_windows(whole, counter, size, count)):
        row = rows[int(np.searchsorted(begins, begin, side="right")) - 1]
        text = whole[begin:end]
        yield {"id": f"{number}", "text": text, "source": row["source"], "tokens": size}


def cut_windows(text: str, counter: Tokens, size: int, count: int) -> Iterator[tuple[int, int]]:
    """Begin and end of up to `count` pieces that are each just `size` tokens, special ones apart.

    Where no end gives that number, a token is skipped.
    """
    begin, found = 0, 0
    while found < count:
        ends = counter.ends(text[begin : begin + size * LONGEST_TOKEN])
        if len(ends) < size:
            return
        near = ends[max(size - NEAR, 0) : size + NEAR]
        near.sort(key=lambda end: abs(end - ends[size - 1]))
        pieces = [text[begin : begin + end] for end in near]
        fitting = (
            len(piece) for piece, n in zip(pieces, counter.count(pieces), strict=True) if n == size
        )
        if length := next(fitting, 0):
            yield begin, begin + length
            found += 1
        begin += length or max(ends[0], 1)


def draw_random_text(tokenizer: "PreTrainedTokenizerBase", tokens: int, seed: int) -> str:
    """Uniformly drawn ids of the vocabulary, without special tokens, as text.

    Encoded again they are not quite uniform: some pairs merge.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = np.array([number for number in range(len(tokenizer)) if number not in special])
    drawn = np.random.default_rng(seed).choice(ids, size=tokens).tolist()
    return str(tokenizer.decode(drawn, clean_up_tokenization_spaces=False))
