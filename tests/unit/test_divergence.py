"""How far two models are apart, on distributions whose distance is known."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy.stats import entropy

from medllm.engines.base import BLOCK_TOKENS, LogProbs
from medllm.engines.fake import VOCABULARY, FakeEngine
from medllm.evaluate.kinds.texts import Texts
from medllm.measures import divergence
from medllm.measures.divergence import (
    Compared,
    compare_document,
    summarize_divergence,
    token_divergence,
)

RANDOM = np.random.default_rng(7)


class Fixed:
    """Expects what it is told, whatever it reads."""

    def __init__(self, rows: LogProbs) -> None:
        self.rows = rows

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        for begin in range(0, len(ids), BLOCK_TOKENS):
            yield self.rows[begin : min(begin + BLOCK_TOKENS, len(ids))]


def random_distributions(tokens: int, vocabulary: int, spread: float = 1.0) -> LogProbs:
    logits = RANDOM.normal(size=(tokens, vocabulary)) * spread
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def test_divergence_is_scipys_entropy() -> None:
    ours, theirs = random_distributions(50, 300, 3.0), random_distributions(50, 300, 3.0)

    found = token_divergence(ours, theirs)

    assert found == pytest.approx(entropy(np.exp(ours), np.exp(theirs), axis=1), rel=1e-9)


def test_what_cannot_come_adds_nothing_and_what_was_ruled_out_costs_all() -> None:
    ours = np.log([[0.5, 0.5, 1e-320]])
    ours[0, 2] = -np.inf

    assert token_divergence(ours, ours) == 0
    assert token_divergence(ours, np.log([[0.25, 0.25, 0.5]])) == pytest.approx(math.log(2))
    assert token_divergence(np.log([[0.25, 0.25, 0.5]]), ours) == np.inf


@pytest.mark.parametrize("tokens", [2, BLOCK_TOKENS, BLOCK_TOKENS + 1, 3 * BLOCK_TOKENS])
def test_a_model_does_not_differ_from_itself(tokens: int) -> None:
    ids = RANDOM.integers(0, VOCABULARY, tokens).tolist()

    compared = compare_document(FakeEngine(), FakeEngine(), "a", ids)
    found = summarize_divergence([compared] * 6)

    assert (found.tokens, found.kl_mean.value, found.kl_p99) == (6 * (tokens - 1), 0, 0)
    assert found.top1_agreement.value == 1
    assert found.perplexity == found.perplexity_parent
    assert (found.nats_lost.low, found.nats_lost.high) == (0, 0)


def test_two_models_of_known_confidence() -> None:
    sure, unsure = FakeEngine(confidence=0.8), FakeEngine(confidence=0.5)
    ids = [5, 5, 6, 7, 7]

    found = compare_document(sure, unsure, "a", ids)

    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert found.divergence == pytest.approx(np.full(4, expected), rel=1e-5)
    rest = math.log(0.2 / (VOCABULARY - 1))
    assert found.parent == pytest.approx([math.log(0.8), rest, rest, math.log(0.8)], rel=1e-5)
    perplexity = math.exp(-(2 * math.log(0.8) + 2 * rest) / 4)
    assert summarize_divergence([found]).perplexity_parent.value == pytest.approx(perplexity)


def test_the_cut_into_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, vocabulary = 2 * BLOCK_TOKENS + 3, 40
    ours, theirs = (Fixed(random_distributions(tokens, vocabulary)) for _ in range(2))
    ids = RANDOM.integers(0, vocabulary, tokens + 1).tolist()
    whole = compare_document(ours, theirs, "a", ids)

    monkeypatch.setattr(divergence, "WORK_NUMBERS", 7 * vocabulary)
    pieces = compare_document(ours, theirs, "a", ids)

    assert np.array_equal(whole.divergence, pieces.divergence)
    assert np.array_equal(whole.quantized, pieces.quantized)
    assert whole.parent == pytest.approx(ours.rows[range(tokens), ids[1:]])
    assert whole.divergence == pytest.approx(token_divergence(ours.rows, theirs.rows))


def test_a_vocabulary_may_be_padded() -> None:
    ours = random_distributions(4, 10)
    padded = np.hstack([ours, np.full((4, 6), -80.0)])

    found = compare_document(Fixed(ours), Fixed(padded), "a", [1, 2, 3, 4, 5])

    assert found.divergence == pytest.approx(np.zeros(4))
    assert found.agreement.all()


def test_the_paired_difference_is_surer_than_the_perplexities() -> None:
    """Documents differ much more from each other than two models do on one document."""
    difficulty = RANDOM.normal(3, 1, 60)
    compared = [
        Compared(
            str(number),
            divergence=np.full(20, 0.01),
            agreement=np.ones(20, dtype=bool),
            parent=np.full(20, -level),
            quantized=np.full(20, -level + RANDOM.normal(0, 0.01)),
        )
        for number, level in enumerate(difficulty)
    ]

    found = summarize_divergence(compared)

    assert found.nats_lost.low < 0 < found.nats_lost.high
    assert found.nats_lost.high - found.nats_lost.low < 0.02
    assert math.log(found.perplexity.high / found.perplexity.low) > 0.2
    assert found.perplexity.low < math.exp(difficulty.mean()) < found.perplexity.high


def test_a_perplexity_that_no_number_can_hold() -> None:
    lost = np.full(3, -1e4)
    document = Compared("a", np.full(3, 1e4), np.zeros(3, dtype=bool), np.full(3, -1.0), lost)

    assert summarize_divergence([document]).perplexity.value == math.inf
    score = Texts().summarize([{"id": "a", "logprob": -900.0, "tokens": 9, "words": 1, "bytes": 9}])
    assert (score["word_perplexity"], score["perplexity"]) == (math.inf, math.exp(100))
