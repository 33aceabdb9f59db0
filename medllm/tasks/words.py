"""The words of a task around a row: prepare and evaluate put them alike."""

from collections.abc import Collection
from dataclasses import replace

from medllm.data.example import Example, Message, Rejected
from medllm.tasks.spec import TaskSpec

UNSAID = ("mcq", "qa", "text")
"""What a row may be that names no task; a file by such a name does not change that."""


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
