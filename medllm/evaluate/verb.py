"""The evaluate verb."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest
from medllm.data.example import Example, read_jsonl, write_jsonl
from medllm.engines.base import Engine
from medllm.engines.open import open_model
from medllm.errors import ConfigError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.summary import summarize_answers, summarize_choices
from medllm.evaluate.tasks import Task
from medllm.measures.likelihood import (
    AnswerResult,
    ChoiceResult,
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
    return produce(job, partial(_evaluate, config, models, tasks))


def _evaluate(
    config: EvaluateConfig, models: list[ModelRef], tasks: list[Task], folder: Path
) -> Outcome:
    items = {task: task.items() for task in tasks}
    rows = []
    for label, model in zip(label_models(models), models, strict=True):
        rows += _evaluate_model(config, model, items, folder / label)
    return Outcome(Counts(examples=sum(map(len, items.values()))), {"scores": rows}, pick_device())


def _evaluate_model(
    config: EvaluateConfig, model: ModelRef, items: dict[Task, list[Example]], folder: Path
) -> list[dict[str, Any]]:
    """The scores of one model; what an interrupted run left whole is not run again."""
    engine: Engine | None = None
    size = model.weight_bytes
    rows = []
    for task, examples in items.items():
        path = folder / f"{task.name}.jsonl"
        if not path.is_file():
            engine = engine or open_model(model, n_ctx=config.n_ctx, dtype=config.dtype)
            _write_records(config, engine, task, examples, path)
        summary = SUMMARIES[task.spec.kind](list(read_jsonl(path)))
        known = {"model": folder.name, "identity": model.parent.identity, "bytes": size}
        known["computed_in"] = computed_in(model, config.dtype)
        rows.append({**known, "task": task.name, "kind": task.spec.kind, **summary})
    if engine:
        engine.close()
    return rows


def _write_records(
    config: EvaluateConfig, engine: Engine, task: Task, items: Sequence[Example], path: Path
) -> None:
    what = f"evaluate: {path.parent.name}, {task.name}"
    console.notice(f"{what}: {len(items)} items")
    records: Sequence[ChoiceResult | AnswerResult]
    if task.spec.kind == "choices":
        records = score_choices(engine, items, chat=config.apply_chat_template, what=what)
    else:
        score = score_answers if task.spec.kind == "answers" else score_texts
        records = score(engine, items, what=what)
    path.parent.mkdir(exist_ok=True)
    partial_path = path.with_suffix(".partial")
    write_jsonl(partial_path, map(asdict, records))
    partial_path.replace(path)


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
