"""Kinds of task: each scores, sums up and prints by itself, so that nothing knows it by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from medllm.artifacts.manifest import BaseModelRef, Parent
from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.evaluate.analysis.baseline import compare_pairs
from medllm.evaluate.analysis.outcomes import outcomes_of
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.kinds.generated import ends
from medllm.evaluate.summary import standing, table_of, verdict
from medllm.evaluate.verb import label_models
from medllm.measures.intervals import estimate_share
from medllm.models.load import ModelRef

ITEM = Example(
    id="ward/1", dataset="ward", group="1", prompt=(Message("user", "So?"),), completion="yes",
    choices=("yes", "no"), target="yes",
)  # fmt: skip
PLAIN = Asking(EvaluateConfig(), in_chat=False, what="test")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_goes_from_items_to_columns(name: str) -> None:
    kind = KINDS[name]
    items = [ITEM, replace(ITEM, id="ward/2"), replace(ITEM, id="ward/3", completion="", prompt=())]

    records = list(kind.score(FakeEngine(), items, PLAIN))

    assert [record["id"] for record in records] == ["ward/1", "ward/2", "ward/3"]
    asked = [record for record in records if "not_asked" not in record]
    score = kind.summarize(asked)
    assert score["items"] == len(asked) >= 2
    assert kind.measure in score
    known = {"model": "base", "bytes": None, "task": "mine", "kind": name}
    columns, rows = table_of([{**known, **score}])
    assert columns[:2] == ["model", "MB"]
    assert columns[2].startswith(f"mine {kind.measure}\nn = {len(asked)}")
    assert all(len(row) == len(columns) for row in rows)


def test_the_short_table_marks_who_is_who() -> None:
    choices = {"task": "mine", "kind": "choices", "items": 9, "bytes": 2e6, "macro_f1": 0.5}
    base = choices | {"model": "tiny", "accuracy": 0.4, "accuracy_low": 0.3, "accuracy_high": 0.5,
                      "majority": 0.35}  # fmt: skip
    tuned = base | {"model": "merged", "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95}
    other = base | {"task": "another"}

    columns, rows = standing([base, other, tuned], "tiny")

    assert columns == ["model", "mine accuracy\nn = 9", "interval", "MB"]
    assert rows == [
        ["tiny, the base", "40.0% °", "30.0–50.0", "2.0"],
        ["merged, tuned", "90.0%", "80.0–95.0", "2.0"],
        ["most frequent label", "35.0%", "", ""],
    ]


@pytest.mark.parametrize(
    ("gained", "lost", "majority", "said"),
    [
        (12, 1, 0.35, "is better than the base."),  # p = 0.0034, R's binom.test(1, 13)
        (12, 1, 0.85, "but not than always the most frequent label"),
        (12, 5, 0.35, "cannot show"),  # p = 0.14
        (1, 12, 0.35, "Training harmed"),
    ],
)
def test_the_verdict_is_that_of_the_same_items(
    gained: int, lost: int, majority: float, said: str
) -> None:
    """Of 100 items 40 and 51 are right: the intervals overlap, and the difference is sure."""
    right = {"tiny": [True] * 40 + [False] * 60, "merged": [True] * (40 - lost) + [False] * lost
             + [True] * gained + [False] * (60 - gained)}  # fmt: skip
    outcomes, scores = [], []
    for model, answers in right.items():
        accuracy = estimate_share(answers)
        score = {"model": model, "task": "mine", "kind": "choices", "majority": majority,
                 "prompt_key": "k", **ends("accuracy", accuracy)}  # fmt: skip
        records = [{"id": str(n), "prompt": str(n), "group": str(n), "target": True, "answer": each}
                   for n, each in enumerate(answers)]  # fmt: skip
        scores.append(score)
        outcomes.append(outcomes_of(records, score))
    before, after = outcomes
    assert before and after and scores[1]["accuracy_low"] < scores[0]["accuracy_high"]

    compared = compare_pairs([(before, after)], None)

    assert said in verdict(scores, compared, "tiny")
    assert verdict(scores[:1], compared, "tiny") == verdict(scores, compared, "other") == ""


def test_which_items_a_kind_takes_and_how_it_asks_them() -> None:
    bare = replace(ITEM, choices=(), target=None)
    chat = EvaluateConfig(apply_chat_template=True)

    lacking = {name for name, kind in KINDS.items() if kind.lacking(bare)}
    assert lacking == {
        "choices", "pairs", "alert", "hallucination", "ner", "memorisation", "safety",
        "rubrics",
    }  # fmt: skip
    marked = {"entities": [], "wants": "answer", "rubrics": [["So", 1, []]]}
    seen = replace(
        ITEM, prompt=(Message("user", "HR 85. So?"),), completion="yes " * 30, metadata=marked
    )
    assert not any(kind.lacking(seen) for kind in KINDS.values())
    always = {name for name, kind in KINDS.items() if kind.is_in_chat(EvaluateConfig())}
    assert {"answers", "alert", "hallucination", "ner"} <= always
    in_chat = {name for name, kind in KINDS.items() if kind.is_in_chat(chat)}
    assert in_chat == always | {"choices"}


def test_the_names_of_kinds_stand_in_one_place() -> None:
    package = Path(__file__).parents[2] / "medllm"
    for room in ("evaluate/verb.py", "evaluate/records.py", "evaluate/items.py",
                 "evaluate/summary.py", "study/walk.py"):  # fmt: skip
        text = (package / room).read_text(encoding="utf-8")
        assert not [name for name in KINDS if f'"{name}"' in text], room


def test_pairs_are_right_where_the_fitting_name_is_likelier() -> None:
    names = ("ileum", "ilium")
    told = [f"The terminal {name}." for name in names]
    items = [
        Example(id=f"p/{fits}", dataset="p", group="ileum/ilium", prompt=(), completion=told[at],
                choices=tuple(told), target=told[at],
                metadata={"fits": fits, "other": names[1 - at]})
        for at, fits in enumerate(names)
    ]  # fmt: skip
    kind = KINDS["pairs"]

    first, second = ({**record, "group": "g"} for record in kind.score(FakeEngine(), items, PLAIN))

    assert first["margin"] == -second["margin"] != 0
    assert first["answer"] == second["answer"]
    score = kind.summarize([first, second])
    assert (score["accuracy"], score["margin"], score["majority"]) == (0.5, 0, 0.5)
    assert score["accuracy_low"] is None  # one pair of names says nothing of others
    assert kind.lacking(ITEM) is None
    assert kind.lacking(replace(ITEM, choices=())) == "no two sentences to choose from"
    assert kind.lacking(replace(ITEM, target="perhaps")) == "no right sentence"


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["runs/a/m", "runs/b/m", "x/tiny"], ["a-m", "b-m", "tiny"]),
        (["a/quantize/q4", "b/quantize/q4", "b/quantize/q8"], ["a-q4", "b-q4", "q8"]),
        (["a/v1/m", "a/v2/m", "b/v2/m"], ["v1-m", "v2-m", "v2-m#2"]),
        (["m"], ["m"]),
    ],
)
def test_models_of_one_name_are_told_apart_by_their_folders(
    paths: list[str], labels: list[str]
) -> None:
    models = [
        ModelRef(
            path,
            Path(path),
            None,
            Parent(kind="model", path=path, identity=path),
            BaseModelRef(id="x"),
        )
        for path in paths
    ]

    assert label_models(models) == labels
