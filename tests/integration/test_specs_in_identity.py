"""What a YAML file of the user's says is part of what was made with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.verb import calibrate
from medllm.errors import ArtifactError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare

DATASET = "title: T\nshape: columns\ncolumns: {completion: '{answer}', prompt: question}\n"
LONG = " The dose was given, the pulse was counted, the wound was seen, the notes were read."


FILES = {
    "ward/dataset.yaml": DATASET,
    "ward/held_out.txt": "rows.jsonl/1\n",
    "tasks/ask.yaml": "description: d\ninstruction: Please answer.\n",
    "mixes/mine.yaml": "shares: {ward: 1}\n",
    "terms.txt": "pulse\n",
    "scores/mine.yaml": "kind: answers\ndataset: ward\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a dataset, a task, a mix and a list of terms of the user's."""
    rows = ({"question": f"What of {n}?", "answer": f"Take {n * n} mg.{LONG}"} for n in range(60))
    files = {**FILES, "ward/rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def make_dataset(place: Path) -> Manifest:
    settings = {"task": "ask", "task_dir": place / "tasks"}
    ward = (str(place / "ward"),)
    return prepare(PrepareConfig(datasets=ward, output=place / "out", **settings))


def make_calibration(place: Path) -> Manifest:
    return calibrate(
        CalibrateConfig(
            mix="mine", mix_dir=place / "mixes", general="mine", data_dir=place, samples=4,
            min_tokens=8, holdout_samples=2, tokenizer="medllm/tiny", output=place / "out",
            boost_terms=str(place / "terms.txt"),
        )
    )  # fmt: skip


def make_evaluation(place: Path) -> Manifest:
    return evaluate(
        EvaluateConfig(
            models=("medllm/tiny",), tasks=("mine",), task_dir=place / "scores", data_dir=place,
            limit=2, output=place / "out",
        )
    )  # fmt: skip


EDITS = {
    "mapping": (make_dataset, "ward/dataset.yaml", "{answer}", "It is so: {answer}"),
    "split": (
        make_dataset,
        "ward/dataset.yaml",
        "title",
        "splits: {validation: ['others*']}\ntitle",
    ),
    "test ids": (make_dataset, "ward/dataset.yaml", "title", "test_ids: held_out.txt\ntitle"),
    "task to prepare": (make_dataset, "tasks/ask.yaml", "Please", "Kindly"),
    "mapping of a mix": (make_calibration, "ward/dataset.yaml", "{answer}", "So: {answer}"),
    "mix": (make_calibration, "mixes/mine.yaml", "{ward: 1}", "{ward: 2}"),
    "list of terms": (make_calibration, "terms.txt", "pulse", "wound"),
    "task to evaluate": (make_evaluation, "scores/mine.yaml", "answers", "texts"),
    "words of a task": (make_evaluation, "scores/mine.yaml", "kind", "instruction: Say.\nkind"),
    "mapping of a task": (make_evaluation, "ward/dataset.yaml", "{answer}", "So: {answer}"),
}


@pytest.mark.parametrize(("make", "file", "old", "new"), EDITS.values(), ids=EDITS)
def test_an_edited_yaml_makes_another_artifact(
    place: Path, make: Callable[[Path], Manifest], file: str, old: str, new: str
) -> None:
    made = make(place)
    assert make(place).created == made.created  # up to date

    content = (place / file).read_text()
    assert old in content
    (place / file).write_text(content.replace(old, new, 1))

    with pytest.raises(ArtifactError, match="holds another"):
        make(place)
    (place / "out").rename(place / "before")
    assert make(place).identity != made.identity
