"""What a study showed, and what it cannot show."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import comb
from typing import Any

from medllm.measures.intervals import Estimate, estimate_ratio

KINDS = ("all", "medical", "general")
LOSSES = {
    **{f"kl {kind}": ("kl", kind) for kind in KINDS},
    **{f"nats lost {kind}": ("nats_lost", kind) for kind in KINDS[1:]},
}
"""What arms are compared in: sums of each document, in nats."""

NOT_TOLD = "not told apart"


@dataclass(frozen=True)
class Draw:
    """One format quantized with one calibration set."""

    arm: str
    number: int
    format: str
    results: Mapping[str, Any]
    """Of its manifest."""
    quality: Mapping[str, Any]
    """Its `quality.json`."""
    scores: Mapping[str, float]
    """By task."""
    tokens: int | None = None
    """Calibration tokens, where the study fixed them."""

    @property
    def figures(self) -> dict[str, float]:
        """What is tabulated, by name."""
        texts = self.quality["texts"]
        found = {f"kl {kind}": texts[kind]["kl_mean"]["value"] for kind in KINDS if kind in texts}
        for kind in texts.keys() & {*KINDS[1:]}:
            found[f"perplexity {kind}"] = texts[kind]["perplexity"]["value"]
        found["kl 99 %"] = texts["all"]["kl_p99"]
        if rare := self.quality["terms"].get("rare"):
            found["rare terms, nats lost"] = rare["nats_lost"]["value"]
        if "seconds" in self.results:
            found["seconds"] = self.results["seconds"]
        return found | dict(self.scores)

    @property
    def parent_figures(self) -> dict[str, float]:
        """The same of the model that was quantized, as far as it has them."""
        texts = self.quality["texts"]
        kinds = [kind for kind in KINDS[1:] if kind in texts]
        return {f"perplexity {kind}": texts[kind]["perplexity_parent"]["value"] for kind in kinds}

    def losses(self, name: str) -> tuple[list[float], list[int]]:
        """A loss of each document, and its tokens."""
        what, kind = LOSSES[name]
        documents = self.quality["documents"]
        kinds = list(documents) if kind == "all" else [kind]
        values = [value for each in kinds for value in documents[each][what]]
        return values, [tokens for each in kinds for tokens in documents[each]["tokens"]]


@dataclass(frozen=True)
class Difference:
    """An arm less the reference, in nats per token of the same texts; below 0 the arm is better."""

    estimate: Estimate
    """Of the means over the draws; the interval is bootstrapped over the documents, paired."""
    draws: list[float] = field(default_factory=list)
    """Of each draw, those with the same seed paired."""
    verdict: str = ""


def summarize(draws: Sequence[Draw], reference: str) -> dict[str, Any]:
    """By format and arm: the figures of each draw, their mean and range, and the differences."""
    formats: dict[str, dict[str, list[Draw]]] = {}
    for draw in draws:
        formats.setdefault(draw.format, {}).setdefault(draw.arm, []).append(draw)
    documents = draws[0].quality["documents"]
    return {
        "texts": {kind: len(found["tokens"]) for kind, found in documents.items()},
        "chance": chance_of_parting(max(draw.number for draw in draws)),
        "formats": {name: _summarize(arms, reference) for name, arms in formats.items()},
    }


def _summarize(arms: Mapping[str, Sequence[Draw]], reference: str) -> dict[str, Any]:
    summary = {arm: _arm(found) for arm, found in arms.items()}
    ours = arms.get(reference)
    if ours is None:
        return {"arms": summary, "differences": {}}
    differences = {
        arm: {
            name: asdict(compare(found, ours, name))
            for name, (_, kind) in LOSSES.items()
            if kind == "all" or kind in ours[0].quality["documents"]
        }
        for arm, found in arms.items()
        if arm != reference
    }
    return {"arms": summary, "differences": differences}


def _arm(draws: Sequence[Draw]) -> dict[str, Any]:
    each = [draw.figures for draw in draws]
    common = [name for name in each[0] if all(name in one for one in each)]
    figures = {name: [one[name] for one in each] for name in common}
    every = draws[0].quality["texts"]["all"]
    return {
        "tokens": [draw.tokens for draw in draws],
        "draws": figures,
        "mean": {name: statistics.fmean(values) for name, values in figures.items()},
        "low": {name: min(values) for name, values in figures.items()},
        "high": {name: max(values) for name, values in figures.items()},
        "kl_interval": every["kl_mean"],
        "bytes": draws[0].quality["bytes"],
    }


def compare(arm: Sequence[Draw], reference: Sequence[Draw], name: str) -> Difference:
    """The difference in one loss, and whether it can be told from none.

    It can if both hold: its interval over the documents leaves out 0, and every draw of one arm is
    below every draw of the other; of single draws nothing is said.
    """
    ours, theirs = ([draw.losses(name) for draw in draws] for draws in (arm, reference))
    tokens = ours[0][1]
    means = [
        [statistics.fmean(values) for values in zip(*(each for each, _ in side), strict=True)]
        for side in (ours, theirs)
    ]
    changes = [left - right for left, right in zip(*means, strict=True)]
    estimate = estimate_ratio(changes, tokens)
    left, right = ([sum(values) / sum(tokens) for values, _ in side] for side in (ours, theirs))
    draws = [one - other for one, other in zip(left, right, strict=False)]
    return Difference(estimate, draws, _verdict(estimate, left, right))


def _verdict(estimate: Estimate, left: Sequence[float], right: Sequence[float]) -> str:
    if min(len(left), len(right)) < 2 or estimate.low is None or estimate.high is None:
        return NOT_TOLD
    if estimate.high < 0 and max(left) < min(right):
        return "better"
    if estimate.low > 0 and min(left) > max(right):
        return "worse"
    return NOT_TOLD


def why_unable(score: Mapping[str, Any], measure: str) -> str | None:
    """Why a task shows nothing of quantization: the model itself cannot do it. Else None."""
    value, low = score.get(measure), score.get(f"{measure}_low")
    if value is None:
        return "it is not measured"
    if value == 0:
        why = ", for it states none of what is asked about" if score.get("silent") == 1 else ""
        why = ", for it lists no name" if score.get("names") == 0 else why
        return f"the model itself passes none of {score['items']} items{why}: none can be lost"
    if score.get("majority") is not None and (low is None or low <= score["majority"]):
        return f"the model itself is not above guessing on {score['items']} items"
    return None


def chance_of_parting(draws: int) -> float:
    """How often all draws of one arm are below all of the other where there is no difference.

    The smallest two-sided p of the Mann-Whitney test with so many draws of each.
    """
    return min(1.0, 2 / comb(2 * draws, draws))


def find_knee(arms: Mapping[str, Mapping[str, Any]]) -> tuple[str, float]:
    """The smallest set whose KL is no worse than the largest set's might be, and that limit.

    The limit is the highest KL of the largest set's draws, or with a single draw the upper end of
    its 95 % interval over the documents; no larger set may be above it either.
    """
    sizes = sorted(arms, key=int)
    largest = arms[sizes[-1]]
    several = len(largest["draws"]["kl all"]) > 1
    limit = largest["high"]["kl all"] if several else largest["kl_interval"]["high"]
    limit = largest["mean"]["kl all"] if limit is None else limit  # of one document no interval
    knee = sizes[-1]
    for size in reversed(sizes):
        if arms[size]["mean"]["kl all"] > limit:
            break
        knee = size
    return knee, limit
