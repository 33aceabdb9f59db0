"""Drawing from datasets: quotas, shortages, groups, duplicates, preferences."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from words import Words

from medllm.data.draw import Drawing
from medllm.data.fit import Fit
from medllm.data.mix import Mix
from medllm.data.registry.datasets import open_dataset
from medllm.data.split import SplitConfig

SPLIT = SplitConfig(validation=0.2, test=0)


def drawing(
    folder: Path, prefer: Any = None, split: SplitConfig = SPLIT, **rows: list[dict[str, Any]]
) -> Drawing:
    for name, content in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    datasets = {name: open_dataset(str(folder / f"{name}.jsonl")) for name in rows}
    fit = Fit(lambda row: row.text, Words(), 3, 100, window_tokens=20)
    return Drawing(datasets, fit, split, 0, prefer)


def notes(count: int, prefix: str = "word") -> list[dict[str, Any]]:
    return [{"id": n, "text": f"{prefix} {n} of a note"} for n in range(count)]


def taken(drawn: dict[str, list[Any]]) -> dict[str, int]:
    return {name: len(samples) for name, samples in drawn.items()}


def test_quotas_are_kept(tmp_path: Path) -> None:
    made = drawing(tmp_path, a=notes(200, "a"), b=notes(200, "b"))

    drawn = made.draw(Mix(shares={"a": 60, "b": 40}), 50, "train", rebalance=False)

    assert taken(drawn) == {"a": 30, "b": 20}


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    shuffled = notes(200)
    random.Random(3).shuffle(shuffled)
    drawn = []
    for number, rows in enumerate((notes(200), shuffled)):
        folder = tmp_path / str(number)
        folder.mkdir()
        drawn.append(
            drawing(folder, a=rows).draw(Mix(shares={"a": 1}), 40, "train", rebalance=False)
        )

    assert drawn[0] == drawn[1]


def test_a_shortage_is_left_open_or_made_up_by_the_others(tmp_path: Path) -> None:
    mix = Mix(shares={"a": 50, "b": 30, "c": 20})
    rows = {"a": notes(10, "a"), "b": notes(300, "b"), "c": notes(300, "c")}

    open_ = taken(drawing(tmp_path, **rows).draw(mix, 100, "train", rebalance=False))
    made_up = taken(drawing(tmp_path, **rows).draw(mix, 100, "train", rebalance=True))

    assert open_["a"] < 50
    assert (open_["b"], open_["c"]) == (30, 20)
    missing = 50 - open_["a"]
    assert made_up["a"] == open_["a"]
    assert sum(made_up.values()) == 100
    assert made_up["b"] == pytest.approx(30 + 0.6 * missing, abs=1)


def test_where_all_run_out_no_more_comes(tmp_path: Path) -> None:
    drawn = drawing(tmp_path, a=notes(10, "a"), b=notes(10, "b")).draw(
        Mix(shares={"a": 1, "b": 1}), 1000, "train", rebalance=True
    )

    assert 0 < sum(taken(drawn).values()) <= 20


def test_a_group_and_a_text_are_taken_once(tmp_path: Path) -> None:
    same_patient = [
        {"id": n, "patient_id": "p", "text": f"visit {n} of a patient"} for n in range(9)
    ]
    forms = ("the same text again", "The  same text\nagain")
    same_text = [{"id": 100 + n, "text": forms[n % 2]} for n in range(9)]
    made = drawing(tmp_path, split=SplitConfig(validation=0, test=0), a=same_patient + same_text)

    drawn = made.draw(Mix(shares={"a": 1}), 18, "train", rebalance=False)

    assert taken(drawn) == {"a": 2}
    assert made.rejected == {"another row of its group": 8, "duplicate text": 8}


def test_what_one_draw_took_no_later_draw_takes(tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"text {n % 50} of a note"} for n in range(500)]  # ten times each
    made = drawing(tmp_path, a=rows)
    mix = Mix(shares={"a": 1})

    train = made.draw(mix, 30, "train", rebalance=False)["a"]
    held_out = made.draw(mix, 10, "validation", rebalance=False)["a"]

    assert held_out
    assert not {one.text for one in train} & {one.text for one in held_out}


def test_preferred_texts_come_first_within_the_quota(tmp_path: Path) -> None:
    rows = notes(200, "chest") + [{**row, "id": f"k{row['id']}"} for row in notes(200, "knee")]
    made = drawing(tmp_path, lambda row: "knee" in row.text, a=rows)

    drawn = made.draw(Mix(shares={"a": 1}), 50, "train", rebalance=False)["a"]

    assert len(drawn) == 50
    assert all("knee" in one.text for one in drawn)


def test_a_window_counts_as_one_sample(tmp_path: Path) -> None:
    made = drawing(tmp_path, a=notes(400))

    drawn = made.draw(Mix(shares={"a": 1}, pack=("a",)), 20, "train", rebalance=False)["a"]

    assert len(drawn) == 20
    assert all(len(one.parts) == 4 and one.tokens == 20 for one in drawn)  # 5 words each, room 20
    parts = [part for one in drawn for part in one.parts]
    assert len(parts) == len(set(parts))


def test_a_text_is_in_one_window_and_never_in_a_holdout_too(tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"text {n % 50} of a note"} for n in range(500)]  # ten times each
    made = drawing(tmp_path, a=rows)
    mix = Mix(shares={"a": 1}, pack=("a",))

    train = made.draw(mix, 6, "train", rebalance=False)["a"]
    held_out = made.draw(mix, 2, "validation", rebalance=False)["a"]

    texts = [part.text for window in [*train, *held_out] for part in window.whole]
    assert train
    assert len(texts) == len(set(texts))
    assert made.rejected["duplicate text"] > 0


def test_unreadable_rows_are_counted_once_however_often_the_file_is_read(tmp_path: Path) -> None:
    made = drawing(tmp_path, a=[*notes(300), {"id": "x", "text": ""}, {"other": 1}])

    made.draw(Mix(shares={"a": 1}), 230, "train", rebalance=False)

    assert made.rejected["no answer"] == 1
    assert made.rejected["no known columns"] == 1
