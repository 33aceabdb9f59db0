"""The evaluate verb."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest, join_terms
from medllm.data.example import Example, read_jsonl, write_jsonl
from medllm.engines.base import Engine
from medllm.engines.open import open_model
from medllm.errors import ConfigError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.summary import summarize_answers, summarize_choices
from medllm.evaluate.tasks import Task, open_tasks
from medllm.measures.likelihood import AnswerResult, ChoiceResult, score_answers, score_choices
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, resolve_model


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
    tasks = open_tasks(config)
    models = [resolve_model(ref) for ref in config.models]
    job = Job.of(
        config,
        "evaluation",
        "evaluate",
        format="jsonl",
        parents=(*(model.parent for model in models), *(task.parent for task in tasks)),
        data_terms=join_terms(
            *(model.data_terms for model in models), *(task.data_terms for task in tasks)
        ),
        base_model=models[0].base,
    )
    return produce(job, partial(_evaluate, config, models, tasks))


def _evaluate(
    config: EvaluateConfig, models: list[ModelRef], tasks: list[Task], folder: Path
) -> Outcome:
    items = {task: task.items() for task in tasks}
    rows = []
    for label, model in zip(label_models(models), models, strict=True):
        rows += _evaluate_model(config, label, model, items, folder)
    return Outcome(Counts(examples=sum(map(len, items.values()))), {"scores": rows}, pick_device())


def _evaluate_model(
    config: EvaluateConfig,
    label: str,
    model: ModelRef,
    items: dict[Task, list[Example]],
    folder: Path,
) -> list[dict[str, Any]]:
    """The scores of one model; what an interrupted run left whole is not run again."""
    engine: Engine | None = None
    rows = []
    for task, examples in items.items():
        path = folder / label / f"{task.name}.jsonl"
        if not path.is_file():
            engine = engine or open_model(model, n_ctx=config.n_ctx)
            _write_records(
                path, _run(engine, task, examples, config, f"evaluate: {label}, {task.name}")
            )
        summary = _summarize(task, list(read_jsonl(path)))
        rows.append(
            {
                "model": label,
                "identity": model.parent.identity,
                "bytes": model.weight_bytes,
                **summary,
            }
        )
    if engine:
        engine.close()
    return rows


def _run(
    engine: Engine, task: Task, items: Sequence[Example], config: EvaluateConfig, what: str
) -> Sequence[ChoiceResult | AnswerResult]:
    console.notice(f"{what}: {len(items)} items")
    if task.spec.kind == "choices":
        return score_choices(engine, items, chat=config.apply_chat_template, what=what)
    return score_answers(engine, items, what=what)


def _write_records(path: Path, records: Sequence[ChoiceResult | AnswerResult]) -> None:
    path.parent.mkdir(exist_ok=True)
    partial_path = path.with_suffix(".partial")
    write_jsonl(partial_path, map(asdict, records))
    partial_path.replace(path)


def _summarize(task: Task, records: list[dict[str, Any]]) -> dict[str, Any]:
    summarize = summarize_choices if task.spec.kind == "choices" else summarize_answers
    return {"task": task.name, "kind": task.spec.kind, **summarize(records)}


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
