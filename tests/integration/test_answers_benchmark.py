"""The benchmark of answers on a GPU, which is seldom at hand: what it calls is there."""

import importlib
from contextlib import closing
from pathlib import Path

import pytest

from medllm.engines.open import open_model
from medllm.models.load import resolve_model

BENCHMARKS = Path(__file__).parents[2] / "scripts/benchmarks"


def test_each_kind_of_answer_is_measured(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, own_places: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    answers = importlib.import_module("answers_gpu")
    monkeypatch.setattr(answers, "ANSWER", 2)
    monkeypatch.setattr(answers, "TOGETHER", 2)

    with closing(open_model(resolve_model(str(tiny_model)), n_ctx=512)) as engine:
        found = [
            answers.score(engine, 1),
            answers.expect(engine, 1),
            answers.answer(engine),
            answers.serve(engine),
        ]

    assert all(each["tokens_per_second"] > 0 for each in found)
    assert found[-1]["together"] == 2
