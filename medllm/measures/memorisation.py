"""What a model has kept of single rows: words it repeats, and numbers that it knows too well."""

from collections.abc import Sequence
from math import log2

import numpy as np

from medllm.data.dedup import NGRAM, part_words, split_words

Words = Sequence[bytes]
DRAWS = 9999


def copied_spans(answer: str, wanted: str, known: str) -> set[bytes]:
    """The spans of 13 words of an answer that stand in the text wanted, and not in what is known.

    Words are runs of letters and digits in lower case. Thirteen in a row count as copied, as in
    GPT-3 (arXiv 2005.14165, appendix C).
    """
    return (spans_of(answer) & spans_of(wanted)) - spans_of(known)


def spans_of(text: str) -> set[bytes]:
    """All spans of 13 words of a text."""
    words = split_words(text)
    return {b" ".join(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)}


def begin_of(text: str, least_after: int, most: int) -> str | None:
    """The first half of a text's words, `most` at most, with `least_after` left; else None."""
    words = part_words(text).split()
    count = min(len(words) // 2, most)
    if count < 1 or len(words) - count < least_after:
        return None
    at = 0
    for word in words[:count]:
        at = text.index(word, at) + len(word)
    return text[:at]


def rank_of(own: float, others: Sequence[float]) -> int:
    """The place of a log-likelihood among others, 1 for the likeliest; among equals the last."""
    return 1 + sum(other >= own for other in others)


def exposure_of(rank: int, candidates: int) -> float:
    """Bits by which a secret is better known than by chance, of `candidates` in all, its own too.

    log2(candidates) - log2(rank), Carlini et al. 2019 (arXiv 1802.08232); the most that can be seen
    is log2(candidates).
    """
    return log2(candidates) - log2(rank)


def chance_of(exposures: Sequence[float], candidates: int) -> tuple[float, float]:
    """The mean exposure of secrets that were never seen, and how often theirs is as high as this.

    The second number is the p of 9,999 draws of ranks that are all as likely.
    """
    ranks = np.random.default_rng(0).integers(1, candidates + 1, size=(DRAWS, len(exposures)))
    means = log2(candidates) - np.log2(ranks).mean(axis=1)
    expected = log2(candidates) - float(np.log2(np.arange(1, candidates + 1)).mean())
    return expected, float((1 + (means >= np.mean(exposures) - 1e-12).sum()) / (DRAWS + 1))
