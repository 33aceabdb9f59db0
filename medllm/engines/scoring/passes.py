"""Forward passes that score: logits where they are asked for alone, and few transfers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medllm.engines.base import Score, ScoreRequest
from medllm.engines.scoring.cache import bytes_kept, copies_of, is_attention_alone, takes_padding
from medllm.engines.scoring.prefixes import Row, size_of

if TYPE_CHECKING:
    import torch

WORK_NUMBERS = 2**26
"""Logits that are worked on in float32 at once: 256 MiB."""

Scored = dict[ScoreRequest, Score]


@dataclass(frozen=True, slots=True)
class Read:
    """Tokens that were read: how many, and their keys and values."""

    tokens: int = 0
    cache: Any = None

    @property
    def bytes_a_token(self) -> float:
        """What the keys and values of a token take; 0 where none was read."""
        return bytes_kept(self.cache) / self.tokens if self.tokens else 0.0


def read_trunk(model: Any, prefix: Sequence[int]) -> Read | None:
    """What is kept of a prefix; None where a model keeps more than keys and values of it."""
    import torch

    if not prefix:
        return Read()
    ids = torch.tensor([list(prefix)], device=model.device)
    _, cache = read_at(model, ids, [0], use_cache=True)
    return Read(len(prefix), cache) if is_attention_alone(cache) else None


def score_rows(model: Any, rows: Sequence[Row], after: Read) -> Scored:
    """The scores of rows that begin with what was read, their ends in one pass."""
    import torch

    begin = after.tokens
    ids = _padded([row.ids[begin:] for row in rows])
    places, where = [], list[int]()
    for number, row in enumerate(rows):
        end = number * ids.shape[1] + len(row.ids) - begin
        places.append(range(len(where), len(where) + row.asked))
        where += range(end - row.asked, end)
    given: dict[str, Any] = {"use_cache": False}
    if begin:
        given = {"past_key_values": copies_of(after.cache, len(rows)), "use_cache": True}
    logits, _ = read_at(model, ids.to(model.device), where, **given)
    with torch.inference_mode():
        return _read_scores(logits, rows, places)


def score_forks(
    model: Any, forks: Sequence[Sequence[Row]], after: Read, most_bytes: int
) -> Scored | None:
    """The scores of rows by the stem that they share: all stems in a pass, and then all endings.

    Stems of unlike length are padded behind, which their endings must not see: that needs a model
    that takes padding. With one that does, the longest ending of a stem is read with it. Endings
    are read in parts whose keys and values take `most_bytes` at most. None where the model keeps
    more than keys and values.
    """
    import torch

    begin, carries = after.tokens, takes_padding(model)
    longest = [max(rows, key=lambda row: len(row.ids)) for rows in forks]
    read = [row.ids[begin : None if carries else row.stem] for row in longest]
    ids, where, firsts = _padded(read), list[int](), list[int]()
    for number, (row, tokens) in enumerate(zip(longest, read, strict=True)):
        firsts.append(len(where))
        at = number * ids.shape[1]
        where += range(at + row.stem - begin - 1, at + len(tokens))
    given: dict[str, Any] = {"use_cache": True}
    if begin:
        given["past_key_values"] = copies_of(after.cache, len(forks))
    logits, cache = read_at(model, ids.to(model.device), where, **given)
    if not is_attention_alone(cache):
        return None
    kept = Read(begin + ids.shape[1], cache)
    stems = _Stems(logits, firsts, kept, [row.stem for row in longest])
    scores: Scored = {}
    if carries:
        places = [
            range(first, first + row.asked) for first, row in zip(firsts, longest, strict=True)
        ]
        with torch.inference_mode():
            scores = _read_scores(logits, longest, places)
    pairs = [(row, number) for number, rows in enumerate(forks) for row in rows
             if not (carries and row is longest[number])]  # fmt: skip
    pairs.sort(key=lambda pair: len(pair[0].ids) - pair[0].stem)
    size = max(1, int(most_bytes * len(forks) / bytes_kept(cache)))
    for start in range(0, len(pairs), size):
        scores |= _score_endings(model, pairs[start : start + size], stems)
    return scores


@dataclass(frozen=True, slots=True)
class _Stems:
    """Stems that were read in a batch, with the logits of what follows each."""

    logits: "torch.Tensor"
    firsts: list[int]
    """Where in them the end of each is."""
    read: Read
    """All of them, with what stands behind some: padding, or an ending."""
    sizes: list[int]
    """The tokens of each, without padding."""

    def before(self, endings: "torch.Tensor", of: Sequence[int]) -> dict[str, Any]:
        """What the model is given with endings after some of them: mask and positions for pads."""
        import torch

        device, width = endings.device, self.read.tokens
        given: dict[str, Any] = {"use_cache": True}
        given["past_key_values"] = copies_of(self.read.cache, torch.tensor(of).to(device))
        sizes = torch.tensor([self.sizes[number] for number in of])[:, None]
        if (sizes < width).any():
            whole = torch.arange(width + endings.shape[1])[None]
            mask = (whole < sizes) | (whole >= width)
            positions = sizes + torch.arange(endings.shape[1])[None]
            given |= {
                "attention_mask": mask.long().to(device),
                "position_ids": positions.to(device),
            }
        return given


def _score_endings(model: Any, pairs: Sequence[tuple[Row, int]], stems: _Stems) -> Scored:
    import torch

    ids, where = _padded([row.ids[row.stem :] for row, _ in pairs]).to(model.device), list[int]()
    places = list[list[int]]()
    for at, (row, number) in enumerate(pairs):
        first, size = len(stems.logits) + len(where), len(row.ids) - row.stem
        places.append([stems.firsts[number], *range(first, first + size)])
        where += range(at * ids.shape[1], at * ids.shape[1] + size)
    more, _ = read_at(model, ids, where, **stems.before(ids, [number for _, number in pairs]))
    with torch.inference_mode():
        logits = torch.cat([stems.logits, more])
        return _read_scores(logits, [row for row, _ in pairs], places)


def _padded(rows: Sequence[Sequence[int]]) -> "torch.Tensor":
    """Rows as a batch. No mask is needed: no token sees the padding, which comes after it."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _read_scores(
    logits: "torch.Tensor", rows: Sequence[Row], places: Sequence[Sequence[int]]
) -> Scored:
    """The scores of all that is asked of rows; `places` are the rows of logits for each."""
    at, targets, sizes, asked = list[int](), list[int](), list[int](), list[ScoreRequest]()
    for row, place in zip(rows, places, strict=True):
        for request, end in row.requests:
            size, last = size_of(request, end), end - row.stem + 1
            sizes.append(size)
            asked.append(request)
            at += place[last - size : last]
            targets += request.continuation[-size:]
    chosen, hits = read_targets(logits, at, targets)
    return {
        request: Score(
            float(chosen[end - size : end].sum()), size, bool(hits[end - size : end].all())
        )
        for request, size, end in zip(asked, sizes, np.cumsum(sizes), strict=True)
    }


def read_at(
    model: Any, ids: "torch.Tensor", where: Sequence[int], **given: Any
) -> tuple["torch.Tensor", Any]:
    """Logits at some positions of a batch, and what the model kept."""
    import torch

    picked = torch.tensor(where).to(model.device)
    with torch.inference_mode(), _picking(model, picked):
        read = model(input_ids=ids, **given)
        logits = read.logits.flatten(0, 1)
        logits = logits if len(logits) == len(where) else logits[picked]
        return logits, getattr(read, "past_key_values", None)


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
