"""Items that a model was trained on: found by lineage, marked, and left out beside the score."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input, open_input
from medllm.artifacts.manifest import BaseModelRef, Counts, Kind, Source
from medllm.config.base import VerbConfig
from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.engines.fake import FakeEngine
from medllm.evaluate.analysis.trained_on import Training, find_seen, training_of
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.groups import sum_up_groups
from medllm.evaluate.items import Task
from medllm.evaluate.records import sum_up_records, write_records
from medllm.evaluate.summary import footnotes, table_of
from medllm.models.load import ModelRef

WORDS = """
the patient was seen with pain in the left chest after a long walk up a steep hill and was sent home
without any drugs since his pulse and blood pressure had come back to what they were before
""".split()  # noqa: SIM905


def ask(n: int, text: str, target: str = "yes") -> Example:
    return Example(f"ward/{n}", "ward", str(n), (Message("user", text),), target,
                   ("yes", "no"), target)  # fmt: skip


def told(n: int) -> str:
    return " ".join(f"{word}{n}" for word in WORDS)


ITEMS = [ask(n, told(n), "yes" if n % 2 else "no") for n in range(12)]


def make(folder: Path, kind: Kind, command: str, sources: Sequence[Source], **files: str) -> Input:
    """An artifact as a verb writes it."""

    def write(output: Path) -> Outcome:
        for name, text in files.items():
            (output / name.replace("_", ".")).write_text(text, encoding="utf-8")
        return Outcome(Counts(examples=1), {}, {})

    produce(Job.of(VerbConfig(output=folder), kind, command, "jsonl", *sources), write)
    return open_input(folder, (kind,), "test")


@pytest.fixture
def home(own_places: Path) -> Path:
    rows = [ITEMS[2], ask(90, f"{told(3)} {told(77)}"), ask(91, told(55)), ask(92, "Is it?")]
    write_jsonl(own_places / "rows.jsonl", map(to_json, rows))
    return own_places


def lineage(home: Path) -> tuple[Input, Input, Input]:
    """Prepared rows, an adapter trained on them, and what it was merged into."""
    rows = (home / "rows.jsonl").read_text(encoding="utf-8")
    data = make(home / "data", "dataset", "prepare", [], train_jsonl=rows)
    adapter = make(home / "adapter", "adapter", "finetune", [data], weights_txt="a")
    return data, adapter, make(home / "merged", "model", "merge", [adapter], weights_txt="b")


def ref(found: Input) -> ModelRef:
    return ModelRef(str(found.path), found.path, found.manifest, found.parent, BaseModelRef(id="x"))


def test_the_rows_are_found_through_the_lineage(home: Path) -> None:
    data, adapter, merged = lineage(home)

    for model in (adapter, merged):
        assert training_of(ref(model)) == Training((data.path / "train.jsonl",), ())
    assert training_of(ModelRef("x", home, None, merged.parent, BaseModelRef(id="x"))) is None
    (home / "data" / "medllm.json").unlink()
    lost = training_of(ref(merged))
    assert lost and lost.files == () and lost.not_known[0].endswith("data")


def test_copies_of_half_a_text_count_and_chance_does_not(home: Path) -> None:
    short = [ask(50, "Is it?"), ask(51, "Is it"), ask(52, "")]

    seen = find_seen(Training((home / "rows.jsonl",)), [*ITEMS, *short])

    assert seen == {2: 1.0, 3: pytest.approx(0.9, abs=0.11), 12: 1.0, 13: 1.0}
    assert 0.5 <= seen[3] < 1.01
    assert find_seen(Training((home / "rows.jsonl",)), short[2:]) == {}


def test_a_phrase_of_all_held_out_rows_is_no_trace_of_an_item(home: Path) -> None:
    phrase = f"{told(77)} {told(78)}"
    items = [ask(n, f"{phrase} {told(n)}") for n in range(1, 5)]  # most of their words are the same
    rows = [ask(n, f"{phrase} {told(n)}") for n in range(20, 30)]
    write_jsonl(home / "train.jsonl", [to_json(ask(90, phrase))])
    training = Training((home / "train.jsonl",))

    assert len(find_seen(training, items)) == 4

    write_jsonl(home / "test.jsonl", map(to_json, [*rows, *items]))

    assert find_seen(training, items) == {}


def test_the_score_without_them_stands_beside(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "tasks").mkdir()
    (home / "tasks/ward.yaml").write_text("kind: choices\n")
    (home / "tasks/all.yaml").write_text("tasks: [ward]\n")
    (home / "rows").mkdir()
    write_jsonl(home / "rows/test.jsonl", map(to_json, ITEMS))
    config = EvaluateConfig(tasks=("all",), task_dir=home / "tasks", data=home / "rows")
    task = Task("ward", config)

    path = home / "out" / "ward.jsonl"
    training = Training((home / "rows.jsonl",), ("runs/data",))
    write_records(FakeEngine(), task, task.items().examples, path, training)
    score = {"model": "m", "identity": "i", "bytes": None, "task": "ward", "kind": "choices"}
    score |= sum_up_records(task, "m", path)

    said = capfd.readouterr().err
    assert "was trained on 2 of 12 items" in said and "runs/data not here" in said
    assert score["training"] == {"files": 1, "not_known": ["runs/data"]}
    found = score["trained_on"]
    assert (found["items"], found["without"]["items"]) == (2, 10)
    hits = round(score["accuracy"] * 12)
    assert round(found["without"]["value"] * 10) in (hits - 2, hits - 1, hits)
    assert found["without"]["low"] < found["without"]["value"] < found["without"]["high"]
    (group,) = sum_up_groups(config, [score], path.parent)
    assert group["trained_on"] == found
    columns, rows = table_of([score])
    assert "†" in rows[0][2]
    assert "† m was trained on 2 of 12 items of ward; accuracy on the other 10: " in footnotes(
        [score]
    )


def test_nothing_is_taken_away_where_rows_to_train_on_are_asked(home: Path) -> None:
    rows = [replace(item, completion=" ".join(f"{item.id}-{n}" for n in range(30)))
            for item in ITEMS]  # fmt: skip
    (home / "rows").mkdir()
    for split, part in (("train", rows[:6]), ("test", rows[6:])):
        write_jsonl(home / f"rows/{split}.jsonl", map(to_json, part))
    task = Task("memorisation", EvaluateConfig(tasks=("memorisation",), data=home / "rows"))

    path = home / "out" / "memorisation.jsonl"
    training = Training((home / "rows/train.jsonl",))
    write_records(FakeEngine(), task, task.items().examples, path, training)
    score = sum_up_records(task, "m", path)

    assert (score["items"], score["extracted_items"], score["extracted"]) == (12, 6, 0.0)
    assert "trained_on" not in score
    known = {"model": "m", "identity": "i", "bytes": None, "task": "memorisation"}
    assert footnotes([{**known, "kind": "memorisation", **score}]) == ""
