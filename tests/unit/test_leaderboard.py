"""Who stands first on a board."""

from pathlib import Path

import pytest

from medllm.evaluate.leaderboard import Entry


@pytest.mark.parametrize(
    ("kind", "measure", "best"),
    [("choices", "accuracy", 0.9), ("hallucination", "passed", 0.9),
     ("memorisation", "extracted", 0.2),
     ("answers", "perplexity", 0.2)],
)  # fmt: skip
def test_the_best_is_first_whichever_way_the_measure_goes(
    kind: str, measure: str, best: float
) -> None:
    scores = [{"kind": kind, measure: value} for value in (0.2, 0.9)]

    first, _ = sorted((Entry(Path(), each, None, "") for each in scores), key=lambda e: e.rank)

    assert first.score[measure] == best
