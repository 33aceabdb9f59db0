"""The evaluate verb."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest, without_nan, write_atomically
from medllm.data.example import Example, read_jsonl, write_jsonl
from medllm.data.registry.datasets import Dataset, specs_of
from medllm.engines.base import Engine
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Items, Task
from medllm.evaluate.summary import summarize_answers, summarize_choices, table_of
from medllm.measures.likelihood import (
    AnswerResult,
    ChoiceResult,
    NotAsked,
    score_answers,
    score_choices,
    score_texts,
)
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in, resolve_model
from medllm.models.memory import within_memory

SUMMARIES = {"choices": summarize_choices, "answers": summarize_answers, "texts": summarize_answers}


@within_memory(
    "evaluate", "lower evaluate.n_ctx, or evaluate the models one by one, quantized ones first"
)
def evaluate(config: EvaluateConfig) -> Manifest:
    """Scores of every model on every task, in the manifest's results.

    Each item has a record in `<model>/<task>.jsonl`.

    Raises:
        ConfigError: no model is named, or an unknown task.
        ArtifactError: a model is missing, altered or unfinished.
        DataError: a task's dataset is not here.
    """
    if not config.models:
        raise ConfigError("no model is named", "--model REF, once for each model")
    tasks = [Task(name, config) for name in config.tasks]
    models = [resolve_model(ref) for ref in config.models]
    sources = [task.source for task in tasks]
    job = Job.of(config, "evaluation", "evaluate", "jsonl", *models, *sources)
    job = job.deciding(
        specs_of_tasks={task.name: task.decides for task in tasks},
        datasets=specs_of(source for source in sources if isinstance(source, Dataset)),
    )
    return produce(job, partial(_evaluate, config, models, tasks))


def _evaluate(
    config: EvaluateConfig, models: list[ModelRef], tasks: list[Task], folder: Path
) -> Outcome:
    items = {task: task.items() for task in tasks}
    rows = []
    for label, model in zip(label_models(models), models, strict=True):
        rows += _evaluate_model(config, model, items, folder / label)
    for task in tasks:
        _announce_unlike(task.name, [row for row in rows if row["task"] == task.name])
    rejected: Counter[str] = Counter()
    for found in items.values():
        rejected.update(found.rejected)
    for row in rows:
        rejected.update(row["not_asked"])
    asked = sum(len(found.examples) for found in items.values())
    counts = Counts(examples=asked, rejected=dict(rejected))
    return Outcome(counts, {"scores": rows}, pick_device())


def _evaluate_model(
    config: EvaluateConfig, model: ModelRef, items: dict[Task, Items], folder: Path
) -> list[dict[str, Any]]:
    """The scores of one model; what an interrupted run left whole is not run again."""
    engine: Engine | None = None
    size = model.weight_bytes
    rows = []
    for task, found in items.items():
        path = folder / f"{task.name}.jsonl"
        if not path.is_file():
            engine = engine or open_model(model, n_ctx=config.n_ctx, dtype=config.dtype)
            _write_records(config, engine, task, found.examples, path)
        known = {"model": folder.name, "identity": model.parent.identity, "bytes": size}
        known |= {"computed_in": computed_in(model, config.dtype)}
        known |= {"task": task.name, "kind": task.spec.kind}
        rows.append({**known, **_summarize(task, folder.name, path)})
    if engine:
        engine.close()
    return rows


def _summarize(task: Task, model: str, path: Path) -> dict[str, Any]:
    """The scores on a task, how it was asked, and what could not be asked or was cut."""
    records = list(read_jsonl(path))
    asked = [record for record in records if "not_asked" not in record]
    reasons = Counter(record["not_asked"] for record in records if "not_asked" in record)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    if not asked:
        message = f"none of the items of {task.name} can be put to {model}: {told}"
        raise DataError(message, "check the data and the chat template")
    cut = sum(record.get("cut", 0) > 0 for record in asked)
    how = json.loads(_notes_of(path).read_text(encoding="utf-8"))
    what = f"evaluate: {model}, {task.name}: of {len(records)} items"
    if reasons:
        console.notice(f"{what} {sum(reasons.values())} were not asked: {told}")
    if cut:
        console.notice(f"{what} {cut} lost their beginning to fit n_ctx {how['n_ctx']:,}")
    counts = {"not_asked": dict(reasons), "cut": cut}
    return {**SUMMARIES[task.spec.kind or ""](asked), **how, **counts}


def _write_records(
    config: EvaluateConfig, engine: Engine, task: Task, items: Sequence[Example], path: Path
) -> None:
    what = f"evaluate: {path.parent.name}, {task.name}"
    console.notice(f"{what}: {len(items)} items")
    how = _how_asked(config, engine, task, what)
    records: Sequence[ChoiceResult | AnswerResult | NotAsked]
    if task.spec.kind == "choices":
        records = score_choices(engine, items, chat=how["chat_template"], what=what)
    else:
        score = score_answers if task.spec.kind == "answers" else score_texts
        records = score(engine, items, what=what)
    path.parent.mkdir(exist_ok=True)
    write_atomically(_notes_of(path), json.dumps(how) + "\n")
    partial_path = path.with_suffix(".partial")
    write_jsonl(partial_path, map(_finite, records))
    partial_path.replace(path)


def _notes_of(path: Path) -> Path:
    """The file that says how the items of some records were asked."""
    return path.with_suffix(".json")


def _how_asked(config: EvaluateConfig, engine: Engine, task: Task, what: str) -> dict[str, Any]:
    """What two scores must have alike to be compared; a template that is missing is said."""
    wanted = {"choices": config.apply_chat_template, "answers": True, "texts": False}
    is_asked = wanted[task.spec.kind or ""]
    how: dict[str, Any] = {"engine": engine.name, "n_ctx": engine.context_length}
    how["chat_template"] = is_asked and engine.has_chat_template
    if is_asked and not engine.has_chat_template:
        console.notice(f"{what}: the model has no chat template, so it is asked plainly")
        how["template_missing"] = True
    return how


def _announce_unlike(task: str, rows: Sequence[dict[str, Any]]) -> None:
    """Say where models were not asked alike."""
    ways: dict[str, Callable[[dict[str, Any]], object]] = {
        "through a chat template and plainly": lambda row: row["chat_template"],
        "with prompts whole and cut": lambda row: row["cut"],
        "different items": lambda row: row["items"],
    }
    for way, of in ways.items():
        if len(set(map(of, rows))) > 1:
            console.notice(f"evaluate: {task}: models were asked {way}; do not compare them")


def _finite(record: ChoiceResult | NotAsked | AnswerResult) -> dict[str, Any]:
    """A record as plain data.

    Raises:
        ArtifactError: a score in it is no number, which no mean over others may hide.
    """
    row = asdict(record)
    if without_nan(row)[1]:
        fix = "make the model again, or in a wider number format"
        raise ArtifactError("the model scores an item with NaN or infinity", fix)
    return row


def label_models(models: Sequence[ModelRef]) -> list[str]:
    """A short name for each model, all different."""
    labels: list[str] = []
    for model in models:
        name = _label(model)
        same = sum(1 for label in labels if label.partition("#")[0] == name)
        labels.append(f"{name}#{same + 1}" if same else name)
    return labels


def _label(model: ModelRef) -> str:
    if model.manifest and model.manifest.command == "merge":
        return "merged"
    if model.manifest and model.manifest.kind == "quantized":
        return (model.path.parent if model.path.is_file() else model.path).name
    if model.is_adapter:
        return "adapter"
    return model.path.stem if model.is_gguf else model.ref.rstrip("/").rpartition("/")[2]


def describe(manifest: Manifest) -> str:
    """The evaluation in a line: its items."""
    return f"{manifest.counts.examples} items"


def show_details(manifests: Sequence[Manifest], _: Sequence[Path]) -> None:
    """The scores as a table."""
    for manifest in manifests:
        console.table(*table_of(manifest.results["scores"]), "scores, and their 95 % intervals")
