"""The prepare verb."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest, write_json
from medllm.data.clean import GARBLED
from medllm.data.registry.datasets import (
    SAY_COLUMNS,
    Dataset,
    open_dataset,
    share_test_groups,
    specs_of,
)
from medllm.data.split import SPLITS
from medllm.errors import ConfigError, DataError
from medllm.models.chat.template import TokenizerTemplate
from medllm.prepare.canaries import check_canaries, plant_canaries
from medllm.prepare.config import PrepareConfig
from medllm.prepare.groups import announce_groups, count_groups
from medllm.prepare.output import (
    link_images,
    write_overlaps,
    write_rejected,
    write_splits,
    write_steps,
)
from medllm.prepare.pipeline import write_shards
from medllm.prepare.repeats import announce_repeats
from medllm.prepare.shard import FORMS, NO_SPLIT, ROWS_CUT, Plan
from medllm.prepare.statistics import build_page, collect_statistics, load_template
from medllm.prepare.unused import announce
from medllm.prepare.verdicts import Verdicts, judge
from medllm.tasks.spec import TaskSpec, find_task, list_tasks
from medllm.tasks.words import UNSAID


def prepare(config: PrepareConfig) -> Manifest:
    """A dataset: `train`, `validation` and `test` files of Examples, cleaned, each in one split.

    `rejected/` says which rows were left out, and why. No group is in two splits. Exact duplicates
    leave the training file, and so does what also stands in a held-out file or holds much of it;
    the held-out files stay as they are. After an interruption the finished shards are kept, so that
    the same call resumes from there.

    Raises:
        ArtifactError: the folder whose chat template the report needs holds no model.
        ConfigError: no dataset is named, or a dataset or task is unknown.
        DataError: a dataset is not here, is damaged, or leaves nothing to train on; or the form
            `messages` is asked for, and the rows are of several kinds.
    """
    if not config.datasets:
        raise ConfigError(
            "no dataset is named",
            "--dataset NAME_OR_PATH, or `prepare: {datasets: [...]}` in the recipe",
        )
    asked = [config.task] if config.task else list(config.tasks)
    tasks = {name: find_task(name, "prepare", config.task_dir) for name in asked}
    _check_tasks_of_one_form(config, tasks.values())
    datasets = share_test_groups(
        [
            open_dataset(ref, data_dir=config.data_dir, accepted=config.data_use)
            for ref in config.datasets
        ]
    )
    _check_names(datasets)
    job = Job.of(config, "dataset", "prepare", config.format, *datasets)
    words = {name: {"description": task.description, **task.words} for name, task in tasks.items()}
    names = tuple(sorted({*list_tasks("prepare", config.task_dir), *UNSAID}))
    job = job.deciding(words_of_tasks=words, tasks_known=names, datasets=specs_of(datasets))
    plan = partial(Plan, config, tuple(datasets), tasks, names)
    return produce(job, lambda folder: _build(plan(folder / "shards"), folder))


def _check_names(datasets: Sequence[Dataset]) -> None:
    """Ids begin with the dataset's name, so that no two may share it."""
    name, times = Counter(dataset.name for dataset in datasets).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"{times} datasets are called '{name}', so their rows could not be told apart",
            "rename one, or put the files into one folder and name that",
        )


ONE_FORM = "with format messages a folder holds rows of one kind, as other trainers want it"
ONE_FORM_FIX = (
    "prepare each kind into a folder of its own, plain texts with `tasks: {text: {}}`, "
    "or leave the format at jsonl"
)


def _check_tasks_of_one_form(config: PrepareConfig, tasks: Iterable[TaskSpec]) -> None:
    """Raise ConfigError where tasks make plain texts and conversations of rows, and may not."""
    if config.format == "messages" and len({task.form for task in tasks}) > 1:
        raise ConfigError(f"{ONE_FORM}, and the tasks make conversations and texts", ONE_FORM_FIX)


def _check_one_form(plan: Plan, verdicts: Verdicts) -> None:
    """Raise DataError where the rows that stay are of several kinds, and may not."""
    numbers = np.bincount(verdicts.columns["form"][verdicts.reason == 0], minlength=len(FORMS))
    found = [f"{n} {form}" for form, n in zip(FORMS, numbers.tolist(), strict=True) if n]
    if plan.config.format == "messages" and len(found) > 1:
        raise DataError(f"{ONE_FORM}: here are {', '.join(found)}", ONE_FORM_FIX)


def _build(plan: Plan, folder: Path) -> Outcome:
    check_canaries(plan)
    template = load_template(plan)  # first, so that a wrong model is known before the long work
    plan.folder.mkdir(exist_ok=True)
    try:
        outcome = _write(plan, folder, write_shards(plan), template)
    except DataError:  # the data must change first, and then the shards would be others
        for path in (plan.folder, folder / "rejected"):
            shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(plan.folder)
    return outcome


def _nothing_to_train_on(examples: Mapping[str, int], rejected: Counter[str]) -> DataError:
    if (held_out := sum(examples.values())) > rejected.total():
        return DataError(
            f"nothing is left to train on: {held_out} rows are held out, for validation or testing",
            "add rows to train on; a group keeps its place, so a file that was held out stays so",
        )
    reason = rejected.most_common(1)[0][0] if rejected else ""
    why = f": most rows were left out as '{reason}'" if reason else ""
    fix = SAY_COLUMNS
    if reason == NO_SPLIT:
        fix = "name the split of each row in a column `split`, or say `split: {by: ratio}`"
    return DataError(f"nothing is left to train on{why}", fix)


def _write(plan: Plan, folder: Path, count: int, template: TokenizerTemplate | None) -> Outcome:
    verdicts = judge(plan, count)
    _check_one_form(plan, verdicts)
    rejected = write_rejected(plan, folder, verdicts)
    known = count_groups(plan, verdicts)
    numbers = {**collect_statistics(plan, verdicts, rejected), "groups": known.groups}
    if not numbers["examples"]["train"]:
        raise _nothing_to_train_on(numbers["examples"], rejected)
    unused = {name: columns for name, columns in numbers["unused_columns"].items() if columns}
    cut = numbers["cleaning"].get(ROWS_CUT, 0)
    undated = verdicts.undated if plan.config.split.by == "time" else 0
    announce(unused, cut, undated, numbers["cleaning"].get(GARBLED, 0))
    announce_groups(plan, known, unused)
    announce_repeats(numbers["prompts_with_another_answer"])
    write_splits(plan, folder, verdicts)
    planted = plant_canaries(plan, folder, verdicts)
    link_images(plan, folder, known.images)
    write_steps(plan, folder, verdicts)
    write_overlaps(plan, folder, verdicts)
    write_json(folder / "statistics.json", numbers)
    build_page(plan, verdicts, numbers, template).write(folder / "report.html")
    examples = {**numbers["examples"], "train": numbers["examples"]["train"] + planted}
    lost = {
        "unused_columns": unused,
        "conversations_cut": cut,
        "rows_without_time": undated,
        "files_not_read": {one.name: list(one.left_out) for one in plan.datasets if one.left_out},
    }
    noted = {name: value for name, value in {**lost, "canaries": planted}.items() if value}
    counts = Counts(examples=sum(examples.values()), rejected=dict(rejected))
    return Outcome(counts, {**examples, **noted, "groups": known.groups})


def describe(manifest: Manifest) -> str:
    """The dataset in a line: examples by split."""
    return ", ".join(f"{manifest.results[split]} {split}" for split in SPLITS)
