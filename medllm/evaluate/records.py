"""The records of a model on a task: written item by item, and summed up."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import strictest, without_nan, write_atomically
from medllm.data.example import Example, Message, read_jsonl, write_jsonl
from medllm.engines.base import Elsewhere, Engine, ScoresBatches
from medllm.engines.prompts import takes_messages
from medllm.engines.row_file import RowFile
from medllm.errors import ArtifactError, DataError
from medllm.evaluate.analysis.trained_on import Training, announce_seen, find_seen
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.evaluate.keyed import Keyed, described
from medllm.evaluate.kinds import Asking
from medllm.evaluate.kinds.base import Record
from medllm.evaluate.kinds.generated import groups_of
from medllm.measures.intervals import repeats
from medllm.models.chat.template import Template

PLACE = "{prompt}"
"""What stands for a prompt in the rendered template."""


def write_records(
    engine: Engine,
    task: Task,
    items: Sequence[Example],
    path: Path,
    training: Training | None = None,
) -> None:
    """Score the items and write a record of each; beside them how they were asked.

    Items of `training`, the rows that the model was trained on, are marked.

    Raises:
        ArtifactError: a score is no number.
    """
    config, what = task.config, f"evaluate: {path.parent.name}, {task.name}"
    console.notice(f"{what}: {console.counted(len(items), 'item')}")
    how = _how_asked(config, engine, task, what)
    keyed = Keyed.of(task.source.data_terms)
    how["prompt_key"] = keyed.name
    takes_system = _takes_system(engine, task, items, how, what)
    asked = [
        task.shots.put(item, in_chat=how["chat_template"], takes_system=takes_system)
        for item in items
    ]
    shows_text = config.show_text or strictest(task.source.data_terms) == "open"
    path.parent.mkdir(exist_ok=True)
    written = path.with_name(f"{path.stem}.answers.jsonl")
    asking = Asking(
        config, how["chat_template"], what, task.spec, shows_text, own=items, written=written
    )
    seen = find_seen(training, items) if training else {}
    if training:
        announce_seen(what, training, len(seen), len(items))
        how["training"] = {"files": len(training.files), "not_known": list(training.not_known)}
    records = described(task.kind.score(engine, asked, asking), items, asked, keyed)
    records = (
        {**record, "trained_on": round(seen[at], 3)} if at in seen else record
        for at, record in enumerate(records)
    )
    partial_path = path.with_suffix(".partial")
    write_jsonl(partial_path, map(_finite, records))
    if isinstance(engine, ScoresBatches):  # known once it is done: memory may be short
        how["batch_tokens"] = engine.batch_tokens
        how["shares_prefixes"] = engine.shares_prefixes
    write_atomically(_notes_of(path), json.dumps({**how, **asking.notes}) + "\n")
    partial_path.replace(path)
    RowFile(written).discard()


def read_asked(path: Path) -> Iterator[Record]:
    """The records of the items that were asked."""
    return (record for record in read_jsonl(path) if "not_asked" not in record)


def sum_up_records(task: Task, model: str, path: Path) -> dict[str, Any]:
    """The scores on a task, how it was asked, and what could not be asked or was cut.

    Raises:
        DataError: no item could be put to the model.
    """
    records = list(read_jsonl(path))
    asked = [record for record in records if "not_asked" not in record]
    reasons = Counter(record["not_asked"] for record in records if "not_asked" in record)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    how = json.loads(_notes_of(path).read_text(encoding="utf-8"))
    if not asked:
        message = f"none of the items of {task.name} can be put to {model}: {told}"
        raise DataError(message, _to_ask_more(reasons, how["n_ctx"]))
    cut = sum(record.get("cut", 0) > 0 for record in asked)
    what = f"evaluate: {model}, {task.name}: of {len(records)} items"
    if reasons:
        console.notice(f"{what} not asked: {told}")
    if cut:
        console.notice(f"{what} {cut} lost their beginning to fit n_ctx {how['n_ctx']:,}")
    counts = {"not_asked": dict(reasons), "cut": cut}
    return {**_numbers(task, asked), **how, **counts, **_without_seen(task, asked)}


def _to_ask_more(reasons: Iterable[str], n_ctx: int | None) -> str:
    """What to do where nothing could be asked."""
    if n_ctx and any("room" in reason or "context" in reason for reason in reasons):
        return f"raise n_ctx, which is {n_ctx:,}; or lower max_tokens in a task of your own"
    return "check the data and the chat template"


def _numbers(task: Task, records: Sequence[Record]) -> dict[str, Any]:
    groups = groups_of(records)
    known = {"groups": len({*groups}), "interval": "over groups"} if repeats(groups) else {}
    return {**task.kind.summarize(records), **known}


def _without_seen(task: Task, records: Sequence[Record]) -> dict[str, Any]:
    """How many items the model was trained on, and the score of the others; nothing where none.

    Nor is there anything to take away where rows to train on are what is asked.
    """
    others = [record for record in records if "trained_on" not in record]
    if len(others) == len(records) or task.spec.rows == "trained_on":
        return {}
    told: dict[str, Any] = {"items": len(records) - len(others), "without": None}
    if others:
        numbers, name = _numbers(task, others), task.kind.measure
        ends = {end: numbers.get(f"{name}_{end}") for end in ("low", "high")}
        if numbers[name] is not None:
            others_score = {"items": len(others), "measure": name, "value": numbers[name]}
            told["without"] = {**others_score, **ends}
    return {"trained_on": told}


def _notes_of(path: Path) -> Path:
    """The file that says how the items of some records were asked."""
    return path.with_suffix(".json")


def _how_asked(config: EvaluateConfig, engine: Engine, task: Task, what: str) -> dict[str, Any]:
    """What two scores must have alike to be compared; a template that is missing is said."""
    is_wanted = task.kind.is_in_chat(config)
    how: dict[str, Any] = {"engine": engine.name, "n_ctx": engine.context_length}
    if isinstance(engine, Elsewhere):
        how |= engine.asked
    how["chat_template"] = is_wanted and takes_messages(engine)
    if is_wanted and not takes_messages(engine):
        console.notice(f"{what}: the model has no chat template, so it is asked plainly")
        how["template_missing"] = True
    if isinstance(engine, Template):
        how |= _rendered(engine, in_chat=how["chat_template"])
    if task.kind.takes_examples:
        how |= {"num_fewshot": task.num_fewshot, "fewshot": task.shots.ids}
    return how


def _rendered(engine: Template, *, in_chat: bool) -> dict[str, Any]:
    """What is put around a prompt, and the token ids that all begin with (BOS)."""
    text = engine.render([Message("user", PLACE)]) if in_chat else PLACE
    ids = engine.encode(text, add_special_tokens=not in_chat)
    begin = engine.encode("", add_special_tokens=True)
    return {"template": text, "bos": begin if begin and ids[: len(begin)] == begin else []}


def _takes_system(
    engine: Engine, task: Task, items: Sequence[Example], how: dict[str, Any], what: str
) -> bool:
    """Whether what the task says first can be a system message; else it is left out, and noted."""
    if not how["chat_template"] or not task.shots.is_system_refused(engine, items):
        return True
    console.notice(
        f"{what}: the chat template takes no system message: the first words of the task are left "
        "out, as lm-evaluation-harness does"
    )
    how["preamble_left_out"] = True
    return False


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """The record.

    Raises:
        ArtifactError: a score in it is no number, which no mean over others may hide.
    """
    if without_nan(record)[1]:
        fix = "make the model again, or in a wider number format"
        raise ArtifactError("the model scores an item with NaN or infinity", fix)
    return record
