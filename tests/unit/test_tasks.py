"""Tasks: prepare and evaluate read one spec, refuse what does not fit, and put rows alike."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.data.example import Example, Message, read_examples
from medllm.errors import ConfigError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare
from medllm.tasks.spec import find_task, list_tasks

MINE = """
description: Doses of the ward.
system: You are a pharmacist.
instruction: Name the dose in mg.
needs: [prompt, completion]
kind: answers
"""
SCORED = [
    "alert",
    "answers",
    "error_detection",
    "error_detection_likelihood",
    "error_detection_text",
    "hallucination",
    "healthbench",
    "laterality",
    "medmcqa",
    "medqa",
    "memorisation",
    "minimal_pairs",
    "mmlu_medical",
    "multimedqa",
    "ner_bc5cdr",
    "ner_ncbi_disease",
    "perplexity",
    "pubmedqa",
    "qa",
    "radiology",
    "safety",
    "speed",
    "summarize",
    "wikitext",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with 39 questions and a text, half of them to test with, and tasks of its own."""
    rows = [
        {
            "id": n,
            "question": f"How much of drug {n}?",
            "answer": f"Take {n * n} mg of drug {n}, then wait.",
            "split": "test" if n % 2 else "train",
        }
        for n in range(40)
    ]
    rows[1] = {"id": 1, "text": "The dose was given at noon.", "split": "test"}
    files = {
        "ward/rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "tasks/mine.yaml": MINE,
        "tasks/over_ward.yaml": f"{MINE}dataset: {tmp_path / 'ward'}\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def prepared(place: Path, **settings: object) -> Manifest:
    return prepare(
        PrepareConfig(
            datasets=(str(place / "ward"),), task_dir=place / "tasks", output=place / "out",
            **settings,
        )
    )  # fmt: skip


def asked(place: Path, name: str) -> Task:
    return Task(name, EvaluateConfig(task_dir=place / "tasks", data=place / "out"))


def by_id(examples: list[Example]) -> dict[str, tuple[Message, ...]]:
    return {example.id.rpartition("/")[2]: example.prompt for example in examples}


def test_each_verb_lists_the_tasks_that_fit_it() -> None:
    words = "alert error_detection laterality mcq ner_bc5cdr ner_ncbi_disease"
    assert list_tasks("prepare") == [*words.split(), "qa", "reasoning", "summarize", "text"]
    assert list_tasks("evaluate") == SCORED


def test_one_file_serves_both_verbs(place: Path) -> None:
    folder = place / "tasks"

    assert find_task("mine", "prepare", folder) == find_task("mine", "evaluate", folder)
    assert "mine" in list_tasks("prepare", folder) and "mine" in list_tasks("evaluate", folder)


def test_evaluate_puts_a_dataset_in_the_words_that_prepare_puts_it_in(place: Path) -> None:
    prepared(place, task="over_ward")

    items = asked(place, "over_ward").items()

    trained = by_id(list(read_examples(place / "out" / "test.jsonl")))
    assert by_id(items.examples) == trained
    assert len(trained) == 19
    first = trained["3"]
    assert first[0] == Message("system", "You are a pharmacist.")
    assert first[1].content == "Name the dose in mg.\n\nHow much of drug 3?"
    assert items.rejected == {"no prompt for the task over_ward": 1}


def test_the_words_of_prepared_rows_are_put_once(place: Path) -> None:
    prepared(place, task="mine")

    items = asked(place, "mine").items()

    assert items.examples == list(read_examples(place / "out" / "test.jsonl"))
    assert items.examples[0].prompt[1].content.count("Name the dose") == 1


def test_prepared_rows_without_a_task_get_its_words(place: Path) -> None:
    prepared(place)

    items = asked(place, "mine").items()

    assert {item.prompt[0].content for item in items.examples} == {"You are a pharmacist."}
    plain = asked(place, "answers").items()  # which has no words
    assert plain.examples == list(read_examples(place / "out" / "test.jsonl"))


@pytest.mark.parametrize(
    ("task", "how"), [("qa", "prepared as qa"), ("mine", "prepared before its words changed")]
)
def test_prepared_rows_in_other_words_are_refused(place: Path, task: str, how: str) -> None:
    prepared(place, task=task)
    (place / "tasks" / "mine.yaml").write_text(MINE.replace("in mg", "in grams"))

    with pytest.raises(ConfigError, match=f"not in the words of the task mine: .* {how}") as caught:
        asked(place, "mine")
    assert "prepare the data as mine" in caught.value.fix


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "without scoring": (
        lambda place: find_task("reasoning", "evaluate"),
        "the task reasoning has no scoring",
        f"{', '.join(SCORED)};.*`kind`",
    ),
    "without words": (
        lambda place: find_task("pubmedqa", "prepare"),
        "the task pubmedqa has no words to put rows in",
        "alert, error_detection, laterality, mcq, .*reasoning, summarize, text; .*`instruction`",
    ),
    "unknown to evaluate": (
        lambda place: find_task("radiologie", "evaluate"),
        "unknown task 'radiologie'",
        f"did you mean 'radiology'.*known: {', '.join(SCORED)}$",
    ),
    "unknown kind": (
        lambda place: asked(place, "odd"),
        "unknown kind of task 'choises'",
        "did you mean 'choices'.*known: alert, answers, choices, .*texts$",
    ),
    "misspelt key": (
        lambda place: asked(place, "broken"),
        "broken.yaml:1: instructions: unknown key",
        "",
    ),
}


@pytest.mark.parametrize(("ask", "message", "fix"), REFUSED.values(), ids=REFUSED)
def test_a_task_that_does_not_fit_is_refused_with_those_that_do(
    place: Path, ask: Callable[[Path], object], message: str, fix: str
) -> None:
    (place / "tasks" / "odd.yaml").write_text("kind: choises\n")
    (place / "tasks" / "broken.yaml").write_text("instructions: x\n")

    with pytest.raises(ConfigError, match=message) as caught:
        ask(place)
    assert re.search(fix, caught.value.fix)


def test_a_file_that_is_no_task_stands_in_nobodys_way(place: Path) -> None:
    (place / "tasks" / "broken.yaml").write_text("instructions: x\n")

    assert find_task("mine", "prepare", place / "tasks").instruction == "Name the dose in mg."


def test_a_task_that_is_only_scored_does_not_change_what_a_row_is(place: Path) -> None:
    (place / "tasks" / "qa.yaml").write_text("kind: answers\n")

    assert prepared(place).results["test"] == 20
