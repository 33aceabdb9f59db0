"""Tasks in lm-evaluation-harness's YAML: read as it reads them, or refused with the reason.

The expected prompt is what its 0.4.13 builds of these rows and this file.
"""

import json
from pathlib import Path

import pytest

from medllm.data.example import Message
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.tasks.spec import list_tasks

YAML = r"""
task: ward_rounds
tag: ours
dataset_path: json
dataset_kwargs:
  data_files:
    dev: rows/dev.jsonl
    test: rows/test.jsonl
test_split: test
fewshot_split: dev
fewshot_config:
  sampler: first_n
output_type: multiple_choice
description: "Questions about {{subject}}_care.\n\n"
doc_to_text: "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nAnswer:"
doc_to_choice: ["A", "B"]
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
DEV = [{"question": "Is it so? ", "choices": ["yes", "no"], "answer": 1, "subject": "heart"}]
TEST = [
    {"id": "t1", "question": " Why? ", "choices": ["so", "or so"], "answer": 0, "subject": "heart"},
    {"id": "t2", "question": "And?", "choices": ["so", "or so"], "answer": 7, "subject": "heart"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with such a task and its rows."""
    (tmp_path / "rows").mkdir()
    for name, rows in (("dev", DEV), ("test", TEST)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"rows/{name}.jsonl").write_text(text)
    (tmp_path / "rounds.yaml").write_text(YAML)
    return tmp_path


def rewrite(folder: Path, old: str, new: str) -> None:
    assert old in YAML
    (folder / "rounds.yaml").write_text(YAML.replace(old, new))


def task(folder: Path, shots: int = 0) -> Task:
    return Task("rounds", EvaluateConfig(task_dir=folder, num_fewshot=shots))


def test_a_task_of_the_harness_is_read(folder: Path) -> None:
    found = task(folder, 1)

    (item,) = found.items().examples

    assert "rounds" in list_tasks("evaluate", folder)
    assert (item.id, item.choices, item.target) == ("ward_rounds/t1", ("A", "B"), "A")
    assert found.shots.put(item, in_chat=False).prompt == (
        Message(
            "user",
            "Questions about heart_care.\n\nIs it so?\nA. yes\nB. no\nAnswer: B\n\n"
            "Why?\nA. so\nB. or so\nAnswer:",
        ),
    )
    assert found.shots.put(item, in_chat=True).prompt == (
        Message("system", "Questions about heart_care.\n\n"),
        Message("user", "Is it so?\nA. yes\nB. no\nAnswer:"),
        Message("assistant", "B"),
        Message("user", "Why?\nA. so\nB. or so\nAnswer:"),
    )
    assert [term.access for term in found.source.data_terms] == ["private"]
    assert "rows/" not in json.dumps(found.decides)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("doc_to_target: answer", 'doc_to_target: "{{answer}}"'),
        ("doc_to_target: answer", "doc_to_target: \"{{'AB'[answer]}}\""),
        ('doc_to_choice: ["A", "B"]', "doc_to_choice: \"{{['A', 'B']}}\""),
        ('doc_to_choice: ["A", "B"]', "doc_to_choice: {one: A, other: B}"),
    ],
)
def test_all_forms_of_choices_and_targets_say_the_same(folder: Path, old: str, new: str) -> None:
    rewrite(folder, old, new)
    (folder / "rows/test.jsonl").write_text(json.dumps(TEST[0]) + "\n")

    (item,) = task(folder).items().examples

    assert (item.choices, item.target) == (("A", "B"), "A")


def test_a_column_may_hold_the_choices(folder: Path) -> None:
    rewrite(folder, 'doc_to_choice: ["A", "B"]', "doc_to_choice: choices")

    assert task(folder).items().examples[0].choices == ("so", "or so")


REFUSED = {
    "code": ("doc_to_target: answer", "doc_to_target: !function ours.target", "no code of a file"),
    "a key that is code": ("tag: ours", "process_docs: x", "is not read: it is code"),
    "another output": ("multiple_choice", "generate_until", "output_type"),
    "a dataset of the hub": ("dataset_path: json", "dataset_path: cais/mmlu", "dataset_path"),
    "an unknown key": ("tag: ours", "tagg: ours", "tagg: unknown key"),
    "another delimiter": ("tag: ours", 'target_delimiter: ""', "target_delimiter"),
    "no split": ("test_split: test", "task_alias: x", "no split that is asked"),
    "a split without a file": ("test_split: test", "test_split: valid", "no file for its split"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_change_a_score_is_refused(folder: Path, old: str, new: str, why: str) -> None:
    rewrite(folder, old, new)

    with pytest.raises(ConfigError, match=why):
        task(folder)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{nothing}}", "'nothing' is undefined"),
        ("{{''.__class__.__mro__}}", "unsafe|undefined"),
        ("{{question", "expected token"),
        ("{{['no'].index(question)}}", r"its values do not fit \(ValueError\)$"),
        ("{{ {'a': 1}[question] }}", r"its values do not fit \(UndefinedError\)$"),
    ],
)
def test_a_template_that_cannot_be_filled_names_the_row(
    folder: Path, template: str, why: str
) -> None:
    rewrite(folder, "{{question.strip()}}", template)

    with pytest.raises(
        DataError, match=rf"doc_to_text cannot be filled for ward_rounds/\S+: .*({why})"
    ):
        task(folder).items()


def test_a_row_without_the_column_of_the_prompt_is_named(folder: Path) -> None:
    lines = [line for line in YAML.splitlines() if not line.startswith("doc_to_text")]
    (folder / "rounds.yaml").write_text("\n".join([*lines, "doc_to_text: question"]))
    rows = [{**TEST[0], "id": "a"}, {"id": "b", "choices": ["so", "or so"], "answer": 0}]
    for row in rows:
        row["subject"] = "heart"
    (folder / "rows/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(DataError, match="for ward_rounds/b: it has no column question"):
        task(folder).items()


@pytest.mark.parametrize(("listed", "why"), [('["A"]', "no list"), ("[]", "no list")])
def test_one_choice_is_none(folder: Path, listed: str, why: str) -> None:
    rewrite(folder, 'doc_to_choice: ["A", "B"]', f"doc_to_choice: {listed}")

    with pytest.raises(DataError, match=why):
        task(folder).items()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('doc_to_choice: ["A", "B"]', 'doc_to_choice: ["A", "A"]', "ambiguous answer"),
        ("doc_to_target: answer", 'doc_to_target: "²"', "no label"),
    ],
)
def test_a_row_whose_answer_is_not_one_choice_is_left_out(
    folder: Path, old: str, new: str, why: str
) -> None:
    rewrite(folder, old, new)

    with pytest.raises(DataError, match=why):
        task(folder).items()


def test_places_that_count_from_one_are_refused(folder: Path) -> None:
    rewrite(folder, "doc_to_target: answer", 'doc_to_target: "2"')

    with pytest.raises(DataError, match="it gives 2, and places of 2 choices count from 0"):
        task(folder).items()


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "rows/test.jsonl").unlink()

    with pytest.raises(DataError, match=r"test.jsonl: no such file"):
        task(folder)
