"""How far the confidence of answers can be trusted: calibration, and risk by coverage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

BINS = 10
"""Of confidence, of equal width from 0 to 1 (Naeini et al. 2015)."""
POINTS = 10
"""Of the risk–coverage curve that is kept: each tenth of the items."""

Floats = NDArray[np.floating[Any]]


def confidence_of(logprobs: Sequence[float]) -> float:
    """The probability of the likeliest choice, where one of the choices must be it."""
    return float(softmax(np.asarray(logprobs, dtype=float)).max())


def measure_confidence(confidences: Sequence[float], right: Sequence[float]) -> dict[str, Any]:
    """The expected calibration error with its bins, and the risk–coverage curve with its area.

    `right` says of each answer whether it is right, or how far, from 0 to 1.
    `calibration_error`: the mean over items of how far the mean confidence of their bin lies from
    its accuracy (Guo et al. 2017). With few items it is too large, as bins differ by chance.
    `risk_coverage`: the share of wrong answers among the surest items; `risk_area` is its mean over
    all coverages (AURC; Geifman and El-Yaniv 2017), where answers are as sure the mean of all
    orders.
    """
    sure, hits = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    bins = _bins(sure, hits)
    apart = sum(each["items"] * abs(each["confidence"] - each["accuracy"]) for each in bins)
    risks = _risks(sure, hits)
    at = [max(round(len(risks) * n / POINTS), 1) for n in range(1, POINTS + 1)]
    return {
        "calibration_error": apart / len(sure),
        "calibration_bins": bins,
        "risk_coverage": [
            {"coverage": count / len(risks), "items": count, "risk": float(risks[count - 1])}
            for count in dict.fromkeys(at)
        ],
        "risk_area": float(risks.mean()),
    }


def _bins(sure: Floats, hits: Floats) -> list[dict[str, Any]]:
    """The bins that have items."""
    numbers = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "items": int((numbers == number).sum()),
            "confidence": float(sure[numbers == number].mean()),
            "accuracy": float(hits[numbers == number].mean()),
        }
        for number in np.unique(numbers).tolist()
    ]


def _risks(sure: Floats, hits: Floats) -> Floats:
    """The share of wrong answers among the surest 1, 2, … items."""
    values, of = np.unique(-sure, return_inverse=True)
    wrong = np.bincount(of, weights=1 - hits) / np.bincount(of)  # the same for all as sure
    ordered = np.sort(of)
    risks: Floats = np.cumsum(wrong[ordered]) / np.arange(1, len(sure) + 1)
    return risks
