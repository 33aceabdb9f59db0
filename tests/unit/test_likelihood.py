"""The likelihood of texts that are longer than what is read at once."""

import math

import pytest

from medllm.data.example import Example
from medllm.engines.fake import VOCABULARY, FakeEngine
from medllm.measures.likelihood import WINDOW, score_texts

AGAIN = math.log(0.5)
OTHER = math.log(0.5 / (VOCABULARY - 1))
"""The log-likelihoods that the fake engine gives the last token, and every other one."""


@pytest.mark.parametrize(
    ("context_length", "pieces"), [(WINDOW, 3), (4 * WINDOW, 3), (1001, 5), (5001, 1)]
)
def test_each_token_of_a_text_counts_once(context_length: int, pieces: int) -> None:
    tokens = 5000 if context_length != 5001 else 2000
    text = Example(id="a", dataset="d", group="g", prompt=(), completion="a" * tokens)

    (score,) = score_texts(FakeEngine(context_length=context_length), [text], what="test")

    assert score.tokens == tokens
    expected = pieces * OTHER + (tokens - pieces) * AGAIN  # a piece begins after <bos>
    assert score.logprob == pytest.approx(expected, rel=1e-6)
