"""How far a quantized model is from its parent: what each expects after every token of a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medllm.engines.base import Array, LogProbs, OnDevice
from medllm.measures.intervals import Estimate, estimate_ratio, perplexity_of

WORK_NUMBERS = 2**21
"""Numbers worked on at once, in float64: 16 MiB a temporary array, whatever the vocabulary."""

DEVICE_NUMBERS = 2**25
"""The same on a GPU: 256 MiB."""

Floats = npt.NDArray[np.float64]


class Expecting(Protocol):
    """What is compared: an engine, or something that stands before one."""

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """As `Expects.log_probs`."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models on one document; each array has a value for every token but the first."""

    id: str
    divergence: Floats
    """KL(parent ‖ quantized), in nats."""
    agreement: npt.NDArray[np.bool_]
    """Whether both find the same token the likeliest."""
    parent: Floats
    """The parent's log-likelihood of the token that stands there, in nats."""
    quantized: Floats
    """The quantized model's."""


def compare_document(
    parent: Expecting, quantized: Expecting, id_: str, ids: Sequence[int]
) -> Compared:
    """Two models on one document, which must fit into both contexts, block by block."""
    read = ids[:-1]  # what would follow the last token is not known
    targets = np.asarray(ids[1:])
    parts: list[tuple[Any, ...]] = []
    begin = 0
    for ours, theirs in zip(parent.log_probs(read), quantized.log_probs(read), strict=True):
        parts += _compare_block(ours, theirs, targets[begin : begin + len(ours)])
        begin += len(ours)
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Compared(id_, *columns)


def _compare_block(
    ours: LogProbs, theirs: LogProbs, targets: npt.NDArray[Any]
) -> Iterator[tuple[Any, ...]]:
    """The four values of `Compared`, some positions at a time, on the GPU that has one of both."""
    for block in (theirs, ours):
        if isinstance(block, OnDevice):
            yield _compare_on(block.values.device, ours, theirs, targets)
            return
    step = max(1, WORK_NUMBERS // ours.shape[1])
    for at in range(0, len(ours), step):
        rows = slice(at, at + step)
        yield _compare(ours[rows], theirs[rows], targets[rows])


def _compare_on(
    device: Any, ours: LogProbs, theirs: LogProbs, targets: npt.NDArray[Any]
) -> tuple[Any, ...]:
    """As `_compare`, in the same float64; only the four values leave the GPU."""
    import torch

    both = [
        block.values if isinstance(block, OnDevice) else torch.from_numpy(np.array(block))
        for block in (ours, theirs)
    ]
    step = max(1, DEVICE_NUMBERS // ours.shape[1])
    width, found = min(ours.shape[1], theirs.shape[1]), []
    parts = (block.to(device).split(step) for block in (*both, torch.from_numpy(targets)))
    with torch.inference_mode():
        for mine, other, target in zip(*parts, strict=True):
            a, b = mine[:, :width].double(), other[:, :width].double()
            mass = a.exp()
            nats = torch.where(mass > 0, mass * (a - b), 0.0).sum(1).clamp(min=0)
            is_same = mine.argmax(1) == other.argmax(1)
            chosen = (each.gather(1, target[:, None])[:, 0] for each in (mine, other))
            found.append(torch.stack([nats, *(each.double() for each in (is_same, *chosen))]))
    divergence, agreement, *likelihoods = torch.cat(found, dim=1).cpu().numpy()
    return divergence, agreement > 0, *likelihoods


def _compare(ours: Array, theirs: Array, targets: npt.NDArray[Any]) -> tuple[Any, ...]:
    """The four values of `Compared` at some positions."""
    # one of them may be padded with tokens that nobody was trained on
    width = min(ours.shape[1], theirs.shape[1])
    chosen = np.arange(len(ours)), targets[: len(ours)]
    return (
        token_divergence(ours[:, :width], theirs[:, :width]),
        ours.argmax(axis=1) == theirs.argmax(axis=1),
        ours[chosen].astype(np.float64),
        theirs[chosen].astype(np.float64),
    )


def token_divergence(ours: Array, theirs: Array) -> Floats:
    """KL(ours ‖ theirs) at each position, in nats, of log-probabilities.

    Not `scipy.special.rel_entr`: it takes probabilities, in which what is unlikely is rounded to 0.
    """
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    mass = np.exp(ours)
    with np.errstate(invalid="ignore"):  # -inf from -inf, where there is no mass
        nats = np.where(mass > 0, mass * (ours - theirs), 0.0).sum(axis=1)
    # float32 sums to 1 only roughly, so that equal distributions may come out just below 0
    return np.asarray(np.maximum(nats, 0.0))


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two models on many documents; the intervals are bootstrapped over the documents."""

    documents: int
    tokens: int
    kl_mean: Estimate
    kl_median: float
    kl_p99: float
    top1_agreement: Estimate
    perplexity_parent: Estimate
    perplexity: Estimate
    nats_lost: Estimate
    """The paired difference of the mean log-likelihoods of a token, parent - quantized."""


def summarize_divergence(compared: Sequence[Compared]) -> Divergence:
    """Means over all tokens of all documents, of which there must be at least one."""
    tokens = [len(document.divergence) for document in compared]
    divergence = np.concatenate([document.divergence for document in compared])
    parent = [-float(document.parent.sum()) for document in compared]
    quantized = [-float(document.quantized.sum()) for document in compared]
    return Divergence(
        documents=len(compared),
        tokens=sum(tokens),
        kl_mean=estimate_ratio([float(each.divergence.sum()) for each in compared], tokens),
        kl_median=float(np.median(divergence)),
        kl_p99=float(np.quantile(divergence, 0.99)),
        top1_agreement=estimate_ratio([float(each.agreement.sum()) for each in compared], tokens),
        perplexity_parent=perplexity_of(estimate_ratio(parent, tokens)),
        perplexity=perplexity_of(estimate_ratio(quantized, tokens)),
        nats_lost=estimate_ratio(np.subtract(quantized, parent).tolist(), tokens),
    )
