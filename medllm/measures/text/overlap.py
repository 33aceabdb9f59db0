"""ROUGE and BLEU, by the libraries that others publish with: rouge-score and sacrebleu.

Both part words at blanks, and rouge-score knows no letters but a to z: two texts in Russian had
nothing in common. So they are given the words of any script; those of English texts are the same.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from medllm.clinical.text.reading import read
from medllm.data.dedup import part_words
from medllm.measures.intervals import Estimate, Groups, Numbers, estimate
from medllm.measures.text.answers import composed, is_vowel

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ROUGE_HOW = (
    "F-measure of rouge-score with Porter's stemmer, words of any script (Chinese, Japanese, Thai: "
    "each letter one); rougeLsum takes each sentence as a line, as medllm parts sentences"
)
BLEU_HOW = (
    "sacrebleu, tokenize 13a, smoothing exp, one reference, over all answers together; letters of "
    "Chinese, Japanese and Thai are words"
)
_ORDERS = 4
"""BLEU counts runs of one to four words."""


def rouge(answer: str, reference: str) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum by name, each an F-measure from 0 to 1.

    Raises:
        ImportError: rouge-score is not installed.
    """
    found = _rouge_scorer().score(_by_line(reference), _by_line(answer))
    return {name: float(found[name].fmeasure) for name in ROUGE}


def _by_line(text: str) -> str:
    """Each sentence on a line of its own; the other measures see white space alike."""
    reading = read(text)
    if not reading.words:
        return ""
    begins = [reading.place(first, last)[0] for first, last in reading.sentences]
    ends = [*begins[1:], len(text)]
    return "\n".join(" ".join(text[a:b].split()) for a, b in zip(begins, ends, strict=True))


@cache
def _rouge_scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE), tokenizer=_AnyScript())


class _AnyScript:
    """rouge-score's own words, stemmed, and beside them those with other letters."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in order, in lower case."""
        if text.isascii():
            return list(self._english.tokenize(text))
        kept = (each if _is_of_word(each) else " " for each in composed(text))
        words = part_words("".join(kept)).split()
        known = ((word, word.isascii()) for word in words)
        return [
            each for word, english in known
            for each in (self._english.tokenize(word) if english else [word])
        ]  # fmt: skip


def _is_of_word(character: str) -> bool:
    return character.isalnum() or is_vowel(character)


def bleu_counts(answer: str, reference: str) -> list[int]:
    """What BLEU is made of: matches and runs of each order, words of answer and of reference.

    Raises:
        ImportError: sacrebleu is not installed.
    """
    found = _bleu_scorer().corpus_score([part_words(answer)], [[part_words(reference)]])
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


@cache
def _bleu_scorer() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU()


def estimate_bleu(counts: Sequence[Sequence[int]], groups: Groups | None = None) -> Estimate:
    """BLEU of all answers together, from 0 to 100, with its bootstrap interval."""
    return estimate(np.array(counts, float), _bleu, groups)


def _bleu(sums: Numbers) -> Numbers:
    """BLEU of sums of counts; an order without a match counts half of one, the next a quarter."""
    matches, runs = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    answer, reference = sums[..., -2], sums[..., -1]
    missed = np.cumsum((matches == 0) & (runs > 0), axis=-1)
    hits = np.where(matches > 0, matches, 0.5**missed)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(hits / runs)
        brevity = np.minimum(1.0, np.exp(1 - reference / answer))
        score = 100 * brevity * np.exp(logs.mean(axis=-1))
    whole = (runs[..., 0] > 0) & (matches[..., 0] > 0)
    return np.where(whole, np.nan_to_num(score, posinf=0.0), 0.0)
