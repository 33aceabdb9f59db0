"""Kinds of task: each scores, sums up and prints by itself, so that nothing knows it by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS, Asking
from medllm.evaluate.summary import table_of

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


def test_which_items_a_kind_takes_and_how_it_asks_them() -> None:
    bare = replace(ITEM, choices=(), target=None)
    chat = EvaluateConfig(apply_chat_template=True)

    assert {name for name, kind in KINDS.items() if kind.lacking(bare)} == {"choices"}
    assert not any(kind.lacking(ITEM) for kind in KINDS.values())
    assert [name for name, kind in KINDS.items() if kind.is_in_chat(EvaluateConfig())] == [
        "answers"
    ]
    assert {name for name, kind in KINDS.items() if kind.is_in_chat(chat)} == {"answers", "choices"}


def test_the_names_of_kinds_stand_in_one_place() -> None:
    package = Path(__file__).parents[2] / "medllm"
    for room in ("evaluate/verb.py", "evaluate/records.py", "evaluate/items.py",
                 "evaluate/summary.py", "study/walk.py"):  # fmt: skip
        text = (package / room).read_text(encoding="utf-8")
        assert not [name for name in KINDS if f'"{name}"' in text], room
