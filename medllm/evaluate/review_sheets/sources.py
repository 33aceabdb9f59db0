"""The outputs that a sheet puts side by side, and what was asked for them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medllm.artifacts.digest import digest_file
from medllm.artifacts.lineage import Input, open_input
from medllm.config.base import is_there
from medllm.data.example import Message, read_jsonl
from medllm.data.left_out import LeftOut
from medllm.data.readers.rows import read_rows
from medllm.data.shapes.local import read_prompt
from medllm.data.shapes.values import text_of
from medllm.errors import ArtifactError, ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.evaluate.review_sheets.scales import LETTERS
from medllm.places import short_ref

ANSWERS = "generations.jsonl"
SOURCE = "source"
"""The kind of parent that a generation's file of prompts is."""
FIX = "name what `medllm generate --input` wrote, or an evaluation that holds written answers"


@dataclass(frozen=True)
class Output:
    """What one model wrote, and for what; by an id of the item."""

    name: str
    """It names the model, so it stands in no sheet."""
    answers: Mapping[str, str]
    questions: Mapping[str, str]


def read_outputs(folders: Sequence[Path], data: Path | None) -> list[Output]:
    """The answers in some folders; `data` is where the questions lie now, if they were moved.

    Raises:
        ConfigError: they are of one model, or of too many to look at side by side.
        ArtifactError: a folder holds no answers, or was altered, or is named twice.
        DataError: the questions are not there any more, or were changed.
    """
    found = [output for folder in dict.fromkeys(folders) for output in _read(folder, data)]
    if not 2 <= len(found) <= len(LETTERS):
        message = (
            f"a sheet takes the answers of 2 to {len(LETTERS)} models, and here is {len(found)}"
        )
        raise ConfigError(message, f"--review-sheet DIR DIR: {FIX}")
    for at, one in enumerate(found):
        if any(one.answers == other.answers for other in found[:at]):
            raise ArtifactError(f"{one.name} holds the answers of another one", "name it once")
    return found


def _read(folder: Path, data: Path | None) -> list[Output]:
    found = open_input(folder, ("generation", "evaluation"), "review sheet")
    assert found.manifest
    if found.manifest.kind == "evaluation":
        return list(_evaluated(found, data))
    return [_generated(found, data)]


def _generated(found: Input, data: Path | None) -> Output:
    if not (found.path / ANSWERS).is_file():
        raise ArtifactError(f"review sheet: {found.path} holds no answers", FIX)
    answers = {
        _key(row["id"], row.get("row")): row["answer"]
        for row in read_jsonl(found.path / ANSWERS)
        if isinstance(row.get("answer"), str)
    }
    return Output(_name(found.path), answers, _questions(found, data))


def _questions(found: Input, data: Path | None) -> dict[str, str]:
    """The prompts of the file that was answered, by id, and by id and number of the row."""
    assert found.manifest
    source = next(each for each in found.manifest.parents if each.kind == SOURCE)
    place = data or Path(source.path)
    if not is_there(place) or not place.is_file():
        fix = "--data FILE, the file of questions"
        raise DataError(f"review sheet: the questions are not at {place} any more", fix)
    if digest_file(place) != source.identity:
        fix = "--data FILE, the file as it was, or answer it again"
        raise DataError(f"review sheet: {place} is not what was answered: it was changed", fix)
    return dict(_prompts(place))


def _prompts(place: Path) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(read_rows(place), 1):
        try:
            text = _shown(read_prompt(row))
        except LeftOut:
            continue
        identity = text_of(row.get("id")) or str(number)
        yield _key(identity), text
        yield _key(identity, number), text


def _key(identity: object, row: object = None) -> str:
    """An id, and where it stands twice in its file the number of the row."""
    return f"{identity}" if row is None else f"{identity}#{row}"


def _evaluated(found: Input, data: Path | None) -> Iterator[Output]:
    """The answers of each model, where the records of a task hold them."""
    assert found.manifest
    scores = found.manifest.results["scores"]
    for model in dict.fromkeys(score["model"] for score in scores):
        answers: dict[str, str] = {}
        questions: dict[str, str] = {}
        for task in [score["task"] for score in scores if score["model"] == model]:
            written = _answers(found.path / model / f"{task}.jsonl")
            answers |= {f"{task}: {identity}": text for identity, text in written.items()}
            if written:
                questions |= _asked(found, task, data)
        if answers:
            yield Output(f"{_name(found.path)}: {model}", answers, questions)


def _answers(records: Path) -> dict[str, str]:
    """The texts that a model wrote; what has a target beside it is a choice or a verdict."""
    rows = read_jsonl(records) if records.is_file() else ()
    return {row["id"]: row["answer"] for row in rows
            if isinstance(row.get("answer"), str) and "target" not in row}  # fmt: skip


def _asked(found: Input, name: str, data: Path | None) -> dict[str, str]:
    """What a task asked, from the data that it was asked from."""
    assert found.manifest
    config = EvaluateConfig.model_validate_json(json.dumps(found.manifest.config))
    task = Task(name, config.model_copy(update={"data": data}) if data else config)
    if task.source.parent.identity not in {each.identity for each in found.manifest.parents}:
        message = f"review sheet: the data of {name} are not what was asked: they were changed"
        raise DataError(message, "--data DIR, the data as they were, or evaluate again")
    return {f"{name}: {item.id}": _shown(item.prompt) for item in task.items().examples}


def _name(folder: Path) -> str:
    return short_ref(folder.absolute()) or str(folder)


def _shown(messages: Sequence[Message]) -> str:
    """A prompt as a person reads it; of several turns it says whose each is."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in messages)
