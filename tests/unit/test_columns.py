"""A dataset described in YAML alone."""

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm.data.example import Example, Message, Rejected
from medllm.data.registry.datasets import DatasetSpec, open_dataset
from medllm.data.shapes import Columns, find_shape, list_shapes
from medllm.data.shapes.columns import read_columns
from medllm.errors import ConfigError

ROW = {
    "Note_ID": "10-DS-2", "subject_id": 10, " Note ": "A man.", "Question": "Why?", "answer": "So.",
    "ward": "ICU", "empty": "",
}  # fmt: skip


def read(row: dict[str, Any], **columns: Any) -> Example | Rejected:
    return read_columns("notes", 3, row, Columns(**columns))


def example(row: dict[str, Any], **columns: Any) -> Example:
    read_row = read(row, **columns)
    assert isinstance(read_row, Example), read_row
    return read_row


def test_templates_say_what_is_asked_and_answered() -> None:
    row = example(
        ROW, id="note_id", group="{subject_id}", prompt="{note|patient}\n\nQuestion: {question}",
        completion="{answer}", metadata=("ward", "empty", "absent"),
    )  # fmt: skip

    assert (row.id, row.group) == ("notes/10-DS-2", "10")
    assert row.prompt == (Message("user", "A man.\n\nQuestion: Why?"),)
    assert (row.completion, row.metadata) == ("So.", {"ward": "ICU"})


@pytest.mark.parametrize(
    ("label", "target"),
    [
        ("aa", "aa"),
        ("AA", "AA"),
        ("oui", "Oui"),
        ("Peut-e\u0302tre", "Peut-être"),
        ("PEUT-ÊTRE", "Peut-être"),
    ],
)
def test_a_label_is_the_choice_that_is_spelt_so_before_one_of_another_case(
    label: str, target: str
) -> None:
    choices = ("AA", "Aa", "aa", "Oui", "Peut-être")

    assert example({"text": "t", "label": label}, choices=choices, target="label").target == target


@pytest.mark.parametrize("said", ["Réponse", "Re\u0301ponse"])
@pytest.mark.parametrize("called", ["Réponse", "Re\u0301ponse"])
def test_a_column_is_named_in_any_form_of_its_accents(said: str, called: str) -> None:
    assert example({called: "Plain."}, completion=f"{{{said}}}").completion == "Plain."


def test_running_text_has_no_prompt() -> None:
    row = example({"text": " Plain. "})

    assert (row.id, row.group, row.prompt, row.completion) == ("notes/3", "3", (), "Plain.")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"completion": "summary"}, "no summary"),
        ({"completion": "empty"}, "no empty"),
        ({"completion": "{summary|empty}"}, "no summary"),
        ({"completion": "answer", "prompt": "{history} {note}"}, "no history"),
        ({"completion": "answer", "group": "patient"}, "no patient"),
        ({"completion": "answer", "group": "note_id", "group_pattern": "^x"}, "no group"),
        ({"completion": "answer", "choices": ("yes", "no"), "target": "answer"}, "unknown answer"),
        ({"completion": "{empty|}"}, "no text"),
    ],
)
def test_what_is_missing_is_named(columns: dict[str, Any], reason: str) -> None:
    assert read(ROW, id="note_id", **columns) == Rejected("notes/10-DS-2", reason)


def test_what_may_be_empty_is_left_out() -> None:
    assert example(ROW, completion="answer", prompt="{empty|} {note}").prompt == (
        Message("user", "A man."),
    )


def test_a_group_may_be_cut_out_of_a_column() -> None:
    for pattern in (r"^\d+", r"^(\d+)-"):
        assert example(ROW, completion="answer", group="note_id", group_pattern=pattern).group == (
            "10"
        )


def test_a_group_that_is_a_text_is_kept_as_its_digest() -> None:
    long = {"text": "Not to be repeated. " * 9}

    assert example(long, group="text").group == example(dict(long), group="text").group
    assert "repeated" not in example(long, group="text").group


def test_a_choice_is_recognised_in_any_case() -> None:
    row = example({"text": "t", "label": "YES"}, choices=("yes", "no"), target="label")

    assert (row.choices, row.target) == (("yes", "no"), "yes")


def test_a_column_may_be_cut_out_of_another() -> None:
    cut = {"findings": {"column": "text", "pattern": r"(?s)FINDINGS:(.*?)IMPRESSION"}}

    assert example({"text": "FINDINGS: Clear. IMPRESSION: x"}, completion="findings", cut=cut)
    assert read({"text": "x"}, completion="findings", cut=cut) == (
        Rejected("notes/3", "no findings")
    )
    given = example({"text": "x", "Findings": "own"}, completion="findings", cut=cut)
    assert given.completion == "own"  # a column of that name comes first


def test_what_utf_8_cannot_hold_is_left_out() -> None:
    assert example({"text": "1\x002 mg \ud83d"}).completion == "1 2 mg ?"


def test_a_brace_that_is_not_closed_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected '}'"):
        Columns(prompt="{note")


# From a YAML file

YAML = """title: Ward notes
shape: columns
columns:
  id: nr
  group: patient
  prompt: "{text}"
  completion: "{summary}"
files: ["*.csv"]
splits: {train: ["a*"], test: ["b*"]}
"""


def test_a_yaml_file_is_all_that_a_dataset_needs(tmp_path: Path) -> None:
    folder = tmp_path / "datasets/ward"
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(YAML)
    (folder / "a.csv").write_text("nr,patient,text,summary\n1,p,T,S\n2,p,T,\n")
    (folder / "b.csv").write_text("patient,text,summary\np,T,S\n")

    dataset = open_dataset("ward")
    first, rejected, last = dataset.examples()

    assert isinstance(first, Example)
    assert isinstance(last, Example)
    assert (first.id, first.metadata) == ("ward/a.csv/1", {"split": "train"})
    assert rejected == Rejected("ward/a.csv/2", "no summary")
    assert (last.id, last.metadata) == ("ward/b.csv/1", {"split": "test"})
    workers = pickle.loads(pickle.dumps(dataset))
    assert [workers.read(n, row) for n, row in enumerate(workers.rows(), 1)] == [
        first, rejected, last,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("shape: colums", "ward.yaml:2: shape: unknown shape 'colums'; did you mean 'columns'?"),
        ("shape: xyz", "ward.yaml:2: shape: unknown shape 'xyz'; known: columns, entities, local"),
        ("shape: columns\ncolumns: {prompts: x}", "ward.yaml:3: columns.prompts: unknown key"),
        ("shape: columns\ncolumns: {prompt: '{x'}", "ward.yaml:3: columns.prompt: expected '}'"),
        (
            "shape: columns\ncolumns: {group_pattern: '('}",
            "ward.yaml:3: columns.group_pattern: not a regular expression",
        ),
        ("shape: columns\nsplits: {dev: [x]}", "ward.yaml:3: splits.dev: "),
    ],
)
def test_what_is_wrong_in_the_yaml_is_named_with_its_line(wrong: str, message: str) -> None:
    from medllm.data.registry.datasets import read_spec

    Path("ward.yaml").write_text(f"title: Ward\n{wrong}\n")

    with pytest.raises(ConfigError) as caught:
        read_spec(Path("ward.yaml"))

    assert caught.value.message.startswith(message)


def test_the_descriptions_in_the_documentation_are_right() -> None:
    from medllm.data.registry.datasets import read_spec

    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml dataset.yaml\n(.*?)```", page, re.DOTALL)

    for block in blocks:
        Path("dataset.yaml").write_text(block)
        assert read_spec(Path("dataset.yaml")).title
    assert len(blocks) == 2


# From an installed package


def test_a_package_brings_a_shape_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "hl7shape-1.0.dist-info").mkdir(parents=True)
    (site / "hl7shape-1.0.dist-info/METADATA").write_text("Name: hl7shape\nVersion: 1.0\n")
    (site / "hl7shape-1.0.dist-info/entry_points.txt").write_text(
        "[medllm.shapes]\nhl7_oru = hl7shape:read_oru\n"
    )
    (site / "hl7shape.py").write_text(
        "from medllm.data.example import Example\n"
        "def read_oru(dataset, number, row, columns):\n"
        "    return Example(f'{dataset}/{number}', dataset, 'g', (), row['OBX'])\n"
    )
    monkeypatch.syspath_prepend(str(site))

    assert "hl7_oru" in list_shapes()
    assert DatasetSpec(title="HL7", shape="hl7_oru").shape == "hl7_oru"
    row = find_shape("hl7_oru")("lab", 1, {"OBX": "Sodium 140"}, Columns())

    assert row == Example("lab/1", "lab", "g", (), "Sodium 140")
    find_shape.cache_clear()
    del sys.modules["hl7shape"]


def test_two_columns_that_differ_in_case_only_are_not_chosen_between() -> None:
    row = {"Note": "one", "note": "other", "Ward": 1, "ward": 2, "answer": "a"}

    told = [read_columns("d", 1, row, Columns(**given)) for given in (
        {"completion": "{note}"}, {"completion": "answer", "metadata": ("ward",)},
        {"completion": "answer"},
    )]  # fmt: skip

    assert told[:2] == [
        Rejected("d/1", "several columns note"),
        Rejected("d/1", "several columns ward"),
    ]
    assert isinstance(told[2], Example) and told[2].completion == "a"


@pytest.mark.parametrize(
    ("question", "scan", "asked"),
    [
        ("<image>\nWhat is it?", "a.png", "What is it?"),
        ("What is it? <image>", "a.png", "What is it?"),
        ("What is it?", "a.png", "What is it?"),
        ("<image>", "a.png", ""),
        ("What is <image> here?", "a.png", "an image amidst words, where no model is shown it"),
        ("<image><image> Both?", "a.png", "more or fewer images than places for them"),
        ("<image> What is it?", None, "missing image"),
    ],
)
def test_marks_of_images_are_no_words(question: str, scan: str | None, asked: str) -> None:
    row = read({"q": question, "a": "A bone.", "scan": scan}, prompt="q", completion="a",
               images=("scan",))  # fmt: skip

    if isinstance(row, Rejected):
        assert row.reason == asked
    else:
        assert (row.prompt, row.images) == ((Message("user", asked),), (scan,))
