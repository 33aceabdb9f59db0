"""Groups of tasks: what is scored for them, and their one number."""

from collections.abc import Iterator, Sequence
from typing import Any

from medllm.errors import ConfigError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import find_kind
from medllm.evaluate.kinds.base import Pools
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
    config: EvaluateConfig, scores: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The score of each group that is asked for, from those that a model has on its tasks."""
    for name in config.tasks:
        if parts := _parts_of(name, config):
            members = [score for score in scores if score["task"] in parts]
            kind = find_kind(members[0]["kind"])
            assert isinstance(kind, Pools)
            alike = {key: members[0][key] for key in ALIKE if key in members[0]}
            own = {"task": name, "kind": members[0]["kind"], "tasks": parts}
            cut = sum(score["cut"] for score in members)
            yield {**alike, **own, "cut": cut, **kind.pool(members), **_trained_on(kind, members)}


def _trained_on(kind: Pools, members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many items of its tasks a model was trained on, and the score of the others."""
    seen = [score["trained_on"] for score in members if "trained_on" in score]
    if not seen:
        return {}
    told: dict[str, Any] = {"items": sum(each["items"] for each in seen), "without": None}
    others = [score for score in map(_without, members) if score]
    if others:
        pooled, name = kind.pool(others), kind.measure
        ends = {end: pooled[f"{name}_{end}"] for end in ("low", "high")}
        known = {"items": pooled["items"], "measure": name}
        told["without"] = {**known, "value": pooled[name], **ends}
    return {"trained_on": told}


def _without(score: dict[str, Any]) -> dict[str, Any] | None:
    """A score on the items that the model was not trained on; None where there are none."""
    if "trained_on" not in score:
        return score
    found = score["trained_on"]["without"]
    return found and {**score, "items": found["items"], found["measure"]: found["value"]}


def _parts_of(name: str, config: EvaluateConfig) -> list[str]:
    return list(find_task(name, "evaluate", config.task_dir).tasks)


def _check_member(group: str, name: str, config: EvaluateConfig) -> None:
    spec = find_task(name, "evaluate", config.task_dir)
    if spec.tasks or not isinstance(find_kind(spec.kind or ""), Pools):
        message = f"the group {group} cannot have one number with the task {name} in it"
        raise ConfigError(message, "a group holds tasks of multiple choice alone, and no groups")
