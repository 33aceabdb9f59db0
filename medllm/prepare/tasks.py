"""Tasks: what a row must hold to be one, and the words that put it to a model."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from medllm.config.base import Strict
from medllm.config.loader import read_named
from medllm.data.example import Example, Message, Rejected

SHIPPED = Path(__file__).parent / "tasks"


class TaskSpec(Strict):
    """A task, from its YAML."""

    description: str = ""
    """What it is."""
    needs: tuple[Literal["prompt", "completion", "choices", "target", "images"], ...] = ()
    """What a row must hold."""
    system: str | None = None
    """System message, for rows that have none of their own."""
    instruction: str | None = None
    """What is asked, put before the first message of the user."""
    form: Literal["chat", "text"] = "chat"
    """`text`: the whole row is plain text, without question and answer."""


def find_task(name: str, folder: Path | None = None) -> TaskSpec:
    """The task of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    return read_named(TaskSpec, "task", name, SHIPPED, folder)


def name_of_task(example: Example, of_dataset: str | None, known: Collection[str]) -> str:
    """What a row is: as it or its dataset says, else by what it holds."""
    for said in (example.metadata.get("task"), of_dataset):
        if said in known:
            return str(said)
    if not example.prompt:
        return "text"
    return "mcq" if example.choices and example.target else "qa"


def put_as(
    example: Example, name: str, task: TaskSpec | None, system: str | None
) -> Example | Rejected:
    """The example in the words of a task; without one it keeps its own."""
    if task is None and not system:
        return example
    task = task or TaskSpec()
    if lacking := [need for need in task.needs if not getattr(example, need)]:
        return Rejected(example.id, f"no {lacking[0]} for the task {name}")
    if task.form == "text":
        return replace(example, prompt=(), completion=example.text)
    prompt = example.prompt
    first = next((i for i, turn in enumerate(prompt) if turn.role == "user"), None)
    if task.instruction and first is not None:
        asked = Message("user", f"{task.instruction}\n\n{prompt[first].content}")
        prompt = (*prompt[:first], asked, *prompt[first + 1 :])
    if not system and not any(turn.role == "system" for turn in prompt):
        system = task.system
    return replace(example, prompt=(Message("system", system), *prompt) if system else prompt)
