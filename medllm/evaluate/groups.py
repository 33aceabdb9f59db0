"""Groups of tasks: what is scored for them, and their one number."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medllm.errors import ConfigError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import find_kind
from medllm.evaluate.kinds.base import Pools, Record
from medllm.evaluate.records import read_asked
from medllm.tasks.spec import find_task

ALIKE = ("model", "identity", "bytes", "computed_in", "engine", "n_ctx", "chat_template",
         "template", "bos", "num_fewshot")  # fmt: skip
"""What the scores of a group's tasks have in common."""


def tasks_of(config: EvaluateConfig) -> list[str]:
    """The names of the tasks to score, each once: groups give theirs.

    Raises:
        ConfigError: a task or a group is unknown, or a group holds what has no common number.
    """
    names: dict[str, None] = {}
    for name in config.tasks:
        parts = _parts_of(name, config)
        for part in parts:
            _check_member(name, part, config)
        names |= dict.fromkeys(parts or [name])
    return list(names)


def sum_up_groups(
    config: EvaluateConfig, scores: Sequence[dict[str, Any]], folder: Path
) -> Iterator[dict[str, Any]]:
    """The score of each group that is asked for, from those that a model has on its tasks.

    The records of the tasks lie in `folder`.
    """
    for name in config.tasks:
        if parts := _parts_of(name, config):
            members = [score for score in scores if score["task"] in parts]
            records = [(score, each) for score in members
                       for each in read_asked(folder / f"{score['task']}.jsonl")]  # fmt: skip
            kind = find_kind(members[0]["kind"])
            assert isinstance(kind, Pools)
            alike = {key: members[0][key] for key in ALIKE if key in members[0]}
            own = {"task": name, "kind": members[0]["kind"], "tasks": parts}
            cut = sum(score["cut"] for score in members)
            pooled = kind.pool(members, [record for _, record in records])
            yield {**alike, **own, "cut": cut, **pooled, **_trained_on(kind, members, records)}


def _trained_on(
    kind: Pools, members: Sequence[dict[str, Any]], records: Sequence[tuple[Any, Record]]
) -> dict[str, Any]:
    """How many items of its tasks a model was trained on, and the score of the others."""
    others = [record for score, record in records
              if "trained_on" not in score or "trained_on" not in record]  # fmt: skip
    if not any("trained_on" in score for score in members):
        return {}
    told: dict[str, Any] = {"items": len(records) - len(others), "without": None}
    if others:
        pooled, name = kind.pool(members, others), kind.measure
        ends = {end: pooled[f"{name}_{end}"] for end in ("low", "high")}
        known = {"items": pooled["items"], "measure": name}
        told["without"] = {**known, "value": pooled[name], **ends}
    return {"trained_on": told}


def _parts_of(name: str, config: EvaluateConfig) -> list[str]:
    return list(find_task(name, "evaluate", config.task_dir).tasks)


def _check_member(group: str, name: str, config: EvaluateConfig) -> None:
    spec = find_task(name, "evaluate", config.task_dir)
    if spec.tasks or not isinstance(find_kind(spec.kind or ""), Pools):
        message = f"the group {group} cannot have one number with the task {name} in it"
        raise ConfigError(message, "a group holds tasks of multiple choice alone, and no groups")
