"""What a study may say."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from medllm.study.config import StudyConfig
from medllm.study.outcome import Draw, chance_of_parting, compare, find_knee, summarize, why_unable
from medllm.study.report import build_page, figures_of, render_markdown
from medllm.study.sets import cut_windows

TOKENS = [100, 200, 100] * 2


def draw(arm: str, number: int, *kl: float) -> Draw:
    """A draw whose documents, two of each, have these KLs a token."""
    sums = [value * tokens for value, tokens in zip(kl * 2, TOKENS, strict=True)]
    mean = {"value": sum(sums) / sum(TOKENS), "low": 0.0, "high": 1.0}
    documents = {"medical": {"tokens": TOKENS, "kl": sums, "nats_lost": sums}}
    found = {"kl_mean": mean, "kl_p99": 1.0, "perplexity": mean}
    texts = {"medical": found, "all": found}
    quality = {"texts": texts, "documents": documents, "terms": {}, "bytes": 8}
    return Draw(arm, number, "gguf", {}, quality, {"pubmedqa accuracy": 0.5}, 4096)


def test_better_needs_the_documents_and_the_draws() -> None:
    good = [draw("a", n, 0.10, 0.11, 0.12 + n / 1000) for n in range(3)]
    bad = [draw("b", n, 0.20, 0.21, 0.22 + n / 1000) for n in range(3)]

    found = compare(good, bad, "kl all")

    assert found.verdict == "better"
    assert compare(bad, good, "kl all").verdict == "worse"
    assert found.estimate.value == pytest.approx(-0.1)
    assert len(found.draws) == 3


def test_draws_that_overlap_cannot_be_told_apart() -> None:
    ours = [draw("a", 1, 0.1, 0.1, 0.1), draw("a", 2, 0.3, 0.3, 0.3)]
    theirs = [draw("b", 1, 0.25, 0.25, 0.25), draw("b", 2, 0.28, 0.28, 0.28)]

    found = compare(ours, theirs, "kl all")

    assert found.estimate.high < 0
    assert found.verdict == "not told apart"


def test_documents_that_disagree_cannot_be_told_apart() -> None:
    ours = [draw("a", n, 0.1, 0.1, 0.5) for n in (1, 2)]
    theirs = [draw("b", n, 0.2, 0.2, 0.31) for n in (1, 2)]

    assert compare(ours, theirs, "kl all").verdict == "not told apart"


def test_of_single_draws_nothing_is_said() -> None:
    one, other = [draw("a", 1, 0.1, 0.1, 0.1)], [draw("b", 1, 0.3, 0.3, 0.3)]

    assert compare(one, other, "kl all").verdict == "not told apart"


def test_few_draws_part_by_chance() -> None:
    assert chance_of_parting(1) == 1
    assert chance_of_parting(3) == pytest.approx(0.1)
    assert chance_of_parting(5) == pytest.approx(2 / 252)


def arms_of(*kl: float, draws: int = 1, spread: float = 0.0) -> dict[str, Any]:
    return {
        str(128 * 2**n): {
            "mean": {"kl all": value},
            "high": {"kl all": value + spread},
            "draws": {"kl all": [value] * draws},
            "kl_interval": {"value": value, "low": value - 0.02, "high": value + 0.02},
        }
        for n, value in enumerate(kl)
    }


def test_the_knee_is_the_smallest_set_within_the_largest_ones_interval() -> None:
    assert find_knee(arms_of(0.5, 0.21, 0.205, 0.2)) == ("256", pytest.approx(0.22))
    assert find_knee(arms_of(0.5, 0.4, 0.3, 0.2))[0] == "1024"
    assert find_knee(arms_of(0.2, 0.2, 0.2, 0.2))[0] == "128"


def test_a_set_below_one_that_is_worse_is_no_knee() -> None:
    assert find_knee(arms_of(0.2, 0.4, 0.2))[0] == "512"


def test_with_several_draws_their_spread_decides() -> None:
    arms = arms_of(0.21, 0.2, draws=3, spread=0.005)

    assert find_knee(arms) == ("256", pytest.approx(0.205))


def test_every_rendering_names_the_arms_and_what_can_be_said() -> None:
    draws = [draw(arm, n, value, value, value + n / 100)
             for arm, value in (("medical", 0.1), ("generic", 0.2)) for n in (1, 2, 3)]  # fmt: skip
    outcome = {
        "model": "tiny",
        "draws": 3,
        "reference": "medical",
        "budget": [8, 512],
        "arms": {"medical": {}, "generic": {}},
        "parent_scores": {"pubmedqa accuracy": 0.6},
        "unable": {"hallucination passed": "the model itself passes none of 40 items"},
        **summarize(draws, "medical"),
    }

    columns, rows = figures_of(outcome, "gguf")
    page, text = build_page(outcome, "study").render(), render_markdown(outcome)

    assert [row[0] for row in rows] == ["medical", "generic", "the model"]
    assert "pubmedqa accuracy" in columns
    assert outcome["formats"]["gguf"]["differences"]["generic"]["kl all"]["verdict"] == "worse"
    for written in (page, text):
        assert "worse" in written
        assert "hallucination passed says nothing here: the model itself passes none" in written
        assert "10%" in written
    assert "4,096 in all" in page
    assert page.count("<svg") == 1


class Words:
    """A tokenizer whose tokens are words with the blank before them."""

    def ends(self, text: str) -> list[int]:
        import re

        return [found.end() for found in re.finditer(r"\s*\S+", text)]

    def count(self, texts: list[str]) -> list[int]:
        return [len(self.ends(text)) for text in texts]


def test_windows_have_the_same_number_of_tokens_and_do_not_overlap() -> None:
    text = " ".join(f"w{number}" for number in range(1000))

    spans = list(cut_windows(text, Words(), 64, 10))

    assert Words().count([text[begin:end] for begin, end in spans]) == [64] * 10
    assert all(end <= begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))
    assert len(list(cut_windows(text, Words(), 64, 100))) == 15


def test_an_arm_that_names_no_folder_is_refused() -> None:
    arms = {"../a": {}, "b": {}}
    with pytest.raises(ValidationError, match="names a folder"):
        StudyConfig.model_validate({"arms": arms})


def test_a_task_that_the_model_itself_cannot_do_shows_no_loss() -> None:
    able = {"items": 40, "accuracy": 0.7, "accuracy_low": 0.6, "majority": 0.5}

    assert why_unable(able, "accuracy") is None
    assert "not above guessing" in (why_unable({**able, "accuracy_low": 0.5}, "accuracy") or "")
    assert "not above guessing" in (why_unable({**able, "accuracy_low": None}, "accuracy") or "")
    silent = why_unable({"items": 40, "passed": 0.0, "silent": 1.0}, "passed")
    assert silent and "none of 40 items, for it states none" in silent
    mute = why_unable({"items": 16, "overlap_f1": 0.0, "names": 0}, "overlap_f1")
    assert mute and "none of 16 items, for it lists no name" in mute
    assert why_unable({"items": 9, "overlap_f1": None}, "overlap_f1") == "it is not measured"
    assert why_unable({"items": 9, "overlap_f1": 0.2}, "overlap_f1") is None


def test_a_figure_that_one_draw_lacks_is_not_shown_as_a_number() -> None:
    whole, lacking = draw("a", 1, 0.1, 0.1, 0.1), draw("b", 1, 0.2, 0.2, 0.2)
    lacking = replace(lacking, scores={})
    outcome = {"parent_scores": {"pubmedqa accuracy": 0.6}, "arms": {"a": {}, "b": {}},
               **summarize([whole, lacking], "a")}  # fmt: skip

    _, rows = figures_of(outcome, "gguf")

    assert "not measured" in rows[1] and "not measured" not in rows[0]
