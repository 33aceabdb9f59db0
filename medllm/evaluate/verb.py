"""The evaluate verb."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest, strictest
from medllm.data.registry.datasets import Dataset, specs_of
from medllm.engines.base import Engine
from medllm.engines.open import engine_for, open_model, open_seeing
from medllm.engines.servers.openai import check_place
from medllm.errors import ConfigError, GateError, MedllmError
from medllm.evaluate.analysis.baseline import check_baseline
from medllm.evaluate.analysis.trained_on import training_of
from medllm.evaluate.analyze import NAME as ANALYSIS
from medllm.evaluate.analyze import analyze, show_analysis
from medllm.evaluate.config import EvaluateConfig, ModelChoice
from medllm.evaluate.gate import apply_gate, judge
from medllm.evaluate.groups import sum_up_groups, tasks_of
from medllm.evaluate.items import Items, Task
from medllm.evaluate.kinds import KINDS
from medllm.evaluate.kinds.base import Sees
from medllm.evaluate.records import sum_up_records, write_records
from medllm.evaluate.report import build_page
from medllm.evaluate.summary import Score, footnotes, table_of
from medllm.measures.gates import GateFile, find_gate
from medllm.measures.room import check_room
from medllm.models.address import address_in, name_in, resolve_address
from medllm.models.gpu import describe_device
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in, resolve_model
from medllm.models.memory import within_memory
from medllm.models.nf4 import check_nf4
from medllm.places import is_address
from medllm.tasks.spec import find_task


@within_memory(
    "evaluate", "lower evaluate.n_ctx, or evaluate the models one by one, quantized ones first"
)
def evaluate(config: EvaluateConfig) -> Manifest:
    """Scores of every model on every task, in the manifest's results.

    Each item has a record in `<model>/<task>.jsonl`.

    Raises:
        ConfigError: no model is named, an unknown task or gate, or no row has a field of `by`.
        ArtifactError: a model is missing, altered or unfinished; or nothing can be compared with
            the baseline, though the scores are made.
        DataError: a task's dataset is not here.
        GateError: all is made, and a threshold is not met.
    """
    if not config.models:
        raise ConfigError("no model is named", "--model REF, once for each model")
    tasks = [Task(name, config) for name in tasks_of(config)]
    models = [_resolve(ref) for ref in config.models]
    sources = [task.source for task in tasks]
    _check_places(config, models, tasks)
    _announce_unread(config, tasks)
    job = Job.of(config, "evaluation", "evaluate", "jsonl", *models, *sources)
    job = job.deciding(
        specs_of_tasks={task.name: task.decides for task in tasks},
        datasets=specs_of(source for source in sources if isinstance(source, Dataset)),
    )
    if any(model.quantization for model in models):
        job = job.deciding(quantizations=[model.quantization for model in models])
    gate = find_gate(config.gate) if config.gate else None
    _check_compared(config, gate)
    if config.baseline:
        check_baseline(config.baseline, [task.name for task in tasks])
    manifest = produce(job, partial(_evaluate, config, models, tasks))
    analysis = analyze(config, gate, job.output, manifest)
    scores = manifest.results["scores"]
    checks = list(judge(gate, _judged(models, scores), analysis)) if gate else []
    build_page(config, scores, analysis, checks, job.output).write(job.output / "report.html")
    if config.gate and gate:
        try:
            apply_gate(config.gate, gate, checks, job.output)
        except GateError:
            show_details([manifest], [job.output])
            raise
    return manifest


def _announce_unread(config: EvaluateConfig, tasks: Iterable[Task]) -> None:
    """Say which settings are of kinds of tasks of which none is asked."""
    known = {name for kind in KINDS.values() for name in kind.settings}
    read = {name for task in tasks for name in task.kind.settings}
    plain = EvaluateConfig()
    unread = [name for name in sorted(known - read)
              if getattr(config, name) != getattr(plain, name)]  # fmt: skip
    if unread:
        console.notice(f"evaluate: no task that is asked reads {', '.join(unread)}")


def _check_compared(config: EvaluateConfig, gate: GateFile | None) -> None:
    """Raise ConfigError where a difference is asked for, and there is nothing to differ from."""
    if config.baseline or len(config.models) > 1:
        return
    of_gate = gate and any(line.of == "difference" for line in gate.thresholds)
    if of_gate or config.margin:
        what = f"the gate {config.gate}" if of_gate else f"a margin of {config.margin:g}"
        message = f"{what} is for what a model has more or less than another, and there is none"
        raise ConfigError(message, "--baseline DIR, an earlier evaluation; or a second --model")


def reads(config: EvaluateConfig, field: str) -> bool:
    """Whether a task reads what `field` (`data`) names: one without a dataset of its own."""
    specs = [find_task(name, "evaluate", config.task_dir) for name in tasks_of(config)]
    return any(not (spec.dataset or (spec.harness and spec.folder)) for spec in specs)


def _judged(models: Sequence[ModelRef], scores: Sequence[Score]) -> list[Score]:
    """The scores that a gate judges: not those of a base that another model here was made from."""
    made_from = {model.base.id for model in models if model.manifest}
    bases = {
        label
        for label, model in zip(label_models(models), models, strict=True)
        if not model.manifest and model.base.id in made_from
    }
    if bases:
        console.notice(f"gate: {', '.join(sorted(bases))} is what others were made from: not held")
    return [score for score in scores if score["model"] not in bases]


def _evaluate(
    config: EvaluateConfig, models: list[ModelRef], tasks: list[Task], folder: Path
) -> Outcome:
    items = {task: task.items() for task in tasks}
    _try_addresses(config, models, tasks)
    rows = []
    for label, model in zip(label_models(models), models, strict=True):
        scored = _evaluate_model(config, model, items, folder / label)
        rows += scored + list(sum_up_groups(config, scored, folder / label))
    for task in tasks:
        _announce_unlike(task.name, [row for row in rows if row["task"] == task.name])
    rejected: Counter[str] = Counter()
    for found in items.values():
        rejected.update(found.rejected)
    for row in rows:
        if "tasks" not in row:
            rejected.update(row["not_asked"])
    asked = sum(len(found.examples) for found in items.values())
    counts = Counts(examples=asked, rejected=dict(rejected))
    return Outcome(counts, {"scores": rows}, describe_device(pick_device()))


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
            sees = any(_has_images(each, rows_of) for each, rows_of in items.items())
            engine = engine or _open(config, model, items, sees=sees)
            fitting = engine_for(engine, task.kind.ability, "evaluate")
            write_records(fitting, task, found.examples, path, training_of(model))
        known = {"model": folder.name, "identity": model.parent.identity, "bytes": size}
        known |= {"computed_in": computed_in(model, config.dtype)}
        known |= {"task": task.name, "kind": task.spec.kind}
        rows.append({**known, **sum_up_records(task, folder.name, path)})
    if engine:
        engine.close()
    return rows


def _open(
    config: EvaluateConfig, model: ModelRef, tasks: Iterable[Task], *, sees: bool = False
) -> Engine:
    """The loaded model; one that `sees` where rows are asked with their images.

    Raises:
        ConfigError: its engine cannot do what one of the tasks needs.
    """
    if not model.is_elsewhere:
        check_room("evaluate", model, config.dtype)
    opened = open_seeing if sees else open_model
    engine = opened(model, n_ctx=config.n_ctx, dtype=config.dtype)
    try:
        for task in tasks:
            engine_for(engine, task.kind.ability, "evaluate")
    except MedllmError:
        engine.close()
        raise
    return engine


def _has_images(task: Task, items: Items) -> bool:
    """Whether a task asks about images that its rows have."""
    sees = isinstance(task.kind, Sees) and task.kind.with_images
    return sees and any(item.images for item in items.examples)


def _resolve(named: str | ModelChoice) -> ModelRef:
    """What an entry of `models` stands for; says where an adapter meets another base than trained.

    Raises:
        ConfigError: it cannot be quantized as asked.
    """
    ref = named if isinstance(named, str) else named.ref
    model = resolve_address(ref) if is_address(ref) else resolve_model(ref)
    wanted = None if isinstance(named, str) else named.quantization
    trained = model.manifest.settings.get("quantization") if model.manifest else None
    if model.is_adapter and model.manifest and trained != wanted:
        console.notice(
            f"evaluate: {ref} was trained on its base in {trained or 'its own number format'}, and "
            f"is put on it in {wanted or 'its own number format'}"
        )
    model = replace(model, quantization=wanted)
    if wanted:
        check_nf4(model)
    return model


def _check_places(
    config: EvaluateConfig, models: Iterable[ModelRef], tasks: Iterable[Task]
) -> None:
    """Raise ConfigError where data that are not open would leave this machine unasked."""
    is_open = all(strictest(task.source.data_terms) == "open" for task in tasks)
    if config.judge:
        check_place(address_in(config.judge), allow_remote=config.allow_remote or is_open)
    for model in models:
        if model.is_elsewhere:
            allowed = config.allow_remote or is_open
            check_place(address_in(model.ref), allow_remote=allowed)
            console.notice(
                f"evaluate: {address_in(model.ref)}: what answers there is known by its name alone"
            )


def _try_addresses(
    config: EvaluateConfig, models: Iterable[ModelRef], tasks: Sequence[Task]
) -> None:
    """See that each address answers and can do all tasks, before any model is scored."""
    if config.judge:
        open_model(resolve_address(config.judge)).close()
    for model in models:
        if model.is_elsewhere:
            _open(config, model, tasks).close()


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


def label_models(models: Sequence[ModelRef]) -> list[str]:
    """A short name for each model, all different: where it would stand twice, after a folder."""
    names = [_label(model) for model in models]
    labels: list[str] = []
    for name, model in zip(names, models, strict=True):
        alike = [each for each, other in zip(models, names, strict=True) if other == name]
        label = f"{_own_folder(model, alike)}-{name}" if len(alike) > 1 else name
        same = sum(1 for other in labels if other.partition("#")[0] == label)
        labels.append(f"{label}#{same + 1}" if same else label)
    return labels


def _own_folder(model: ModelRef, alike: Sequence[ModelRef]) -> str:
    """The nearest folder above a model by which it is told from those that are named alike."""
    above = [[folder.name for folder in each.path.absolute().parents] for each in alike]
    own = above[alike.index(model)]
    depths = zip(own, *above, strict=False)
    return next((name for name, *every in depths if len({*every}) == len(every)), own[0])


def _label(model: ModelRef) -> str:
    if model.is_elsewhere:
        name = (name_in(model.ref) or "").rstrip("/").rpartition("/")[2]
        return model.path.name if name in {"", ".", ".."} else name
    if model.manifest and model.manifest.command == "merge":
        return "merged"
    if model.manifest and model.manifest.kind == "quantized":
        return (model.path.parent if model.path.is_file() else model.path).name
    if model.is_adapter and model.manifest:
        return f"adapter-{model.quantization}" if model.quantization else "adapter"
    return model.path.stem if model.is_gguf else model.ref.rstrip("/").rpartition("/")[2]


def describe(manifest: Manifest) -> str:
    """The evaluation in a line: its items."""
    return console.counted(manifest.counts.examples or 0, "item")


def show_details(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """The scores as a table, and what follows from them."""
    for manifest, folder in zip(manifests, folders, strict=True):
        console.table(*table_of(manifest.results["scores"]), "scores, and their 95 % intervals")
        if notes := footnotes(manifest.results["scores"]):
            console.say(notes)
        show_analysis(json.loads((folder / ANALYSIS).read_text(encoding="utf-8")))
