"""Planting canaries among the rows to train on, and listing them."""

from pathlib import Path

import numpy as np

from medllm import console
from medllm.data.example import Example, write_jsonl
from medllm.data.generators.canaries import DATASET, FILE, build_canaries, secret_of
from medllm.errors import ConfigError
from medllm.prepare.shard import FORMS, Plan, render_example
from medllm.prepare.verdicts import Verdicts
from medllm.tasks.words import put_as


def check_canaries(plan: Plan) -> None:
    """Raise ConfigError where rows of the user's could not be told from canaries."""
    if plan.config.canaries and DATASET in {dataset.name for dataset in plan.datasets}:
        message = f"a dataset is called {DATASET}, as canaries are"
        raise ConfigError(message, "rename it, or plant none")


def plant_canaries(plan: Plan, folder: Path, verdicts: Verdicts) -> int:
    """Put the canaries at the end of the training file, and write the list; returns how many.

    They have the words and the form of the rows: those of the first task that takes them.
    """
    count, config = plan.config.canaries, plan.config
    if not count:
        return 0
    canaries = list(build_canaries(count, config.seed, as_text=_are_texts(verdicts)))
    ending = "csv" if config.format == "csv" else "jsonl"
    with (folder / f"train.{ending}").open("ab") as file:
        file.writelines(render_example(_worded(plan, each), config.format) for each in canaries)
    write_jsonl(folder / FILE, ({"id": each.id, "secret": secret_of(each)} for each in canaries))
    console.notice(
        f"prepare: {console.counted(count, 'row')} with a secret number planted in the training "
        f"file: {FILE} lists these canaries"
    )
    return count


def _are_texts(verdicts: Verdicts) -> bool:
    """Whether most of the rows to train on are plain texts."""
    forms = verdicts.columns["form"][verdicts.in_split("train")]
    return bool(np.mean(forms == FORMS.index("plain texts")) > 0.5)


def _worded(plan: Plan, canary: Example) -> Example:
    for name, task in plan.tasks.items():
        put = put_as(canary, name, task, plan.config.system)
        if isinstance(put, Example):
            return put
    put = put_as(canary, "qa", None, plan.config.system)
    assert isinstance(put, Example)
    return put
