"""The items of lm-evaluation-harness: the files that its `--log_samples` writes (0.4.13).

A line an item and filter: `doc_id`, `arguments` (`gen_args_0: {arg_0: prompt, arg_1: " choice"}`,
one for each choice), `filter`, and each metric under its name. The prompt is read to be compared,
and kept nowhere.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medllm.data.example import read_jsonl
from medllm.errors import DataError
from medllm.evaluate.analysis.outcomes import ACCURACY, Outcomes
from medllm.evaluate.keyed import Keyed

FILE = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
"""`save_results_samples` of its evaluation_tracker.py."""
RIGHT = ("acc", "exact_match")
"""Metrics that are 1 where an item is right, else 0; `acc` is by likelihood, as here."""


def find_samples(place: Path) -> dict[str, Path]:
    """The newest file of each task, in a folder and those in it, or the file itself."""
    files = [place] if place.is_file() else place.rglob("samples_*.jsonl")
    dated = ((found[2], found[1], path) for path in files if (found := FILE.fullmatch(path.name)))
    return {task: path for _, task, path in sorted(dated)}


def read_samples(place: Path, keyed: Keyed) -> list[Outcomes]:
    """What a model did on the items of each task.

    Raises:
        DataError: a file is not of this form, or its items are neither right nor wrong.
    """
    return [_outcomes(task, path, keyed) for task, path in find_samples(place).items()]


def _outcomes(task: str, path: Path, keyed: Keyed) -> Outcomes:
    try:
        records = list(_records(path, keyed))
    except (LookupError, TypeError, AttributeError) as problem:
        fix = "name what `lm_eval --log_samples` wrote, of a task of multiple choice"
        raise DataError(f"{path}: not samples of lm-evaluation-harness: {problem}", fix) from None
    return Outcomes(path.parent.name, task, ACCURACY, {"cut": 0}, records, "lm-evaluation-harness")


def _records(path: Path, keyed: Keyed) -> Iterator[dict[str, Any]]:
    """Of each item what is compared; of several filters the first one."""
    wanted = None
    for row in read_jsonl(path):
        wanted = wanted or row["filter"]
        if row["filter"] != wanted:
            continue
        arguments = [tuple(each.values()) for each in row["arguments"].values()]
        metric = next((name for name in RIGHT if name in row), None)
        if metric is None or row[metric] not in (0, 1):
            raise KeyError(f"none of {', '.join(RIGHT)}")
        prompt, answers = arguments[0][0], _choices(row, arguments)
        known = {"id": str(row["doc_id"]), "prompt": keyed.prompt(prompt, answers)}
        yield {**known, "value": float(row[metric]), "weight": 1}


def _choices(row: dict[str, Any], arguments: Sequence[tuple[Any, ...]]) -> list[str]:
    """What may be chosen; `acc_mutual_info` asks for each once more, without the prompt."""
    if "acc_mutual_info" in row:
        arguments = arguments[: len(arguments) // 2]
    return [str(each[1]).removeprefix(" ") for each in arguments]
