"""What a task is: prepare words rows by it, and evaluate scores by it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from medllm.config.base import Strict
from medllm.config.loader import list_named, read_yaml, unknown_name, validate
from medllm.config.writing import Writing
from medllm.errors import ConfigError
from medllm.tasks.harness import SIGNS, HarnessTask, read_harness

SHIPPED = Path(__file__).parent
WORDS = {"needs", "system", "instruction", "form"}
"""The fields that say how a row is put to a model."""

Use = Literal["prepare", "evaluate"]
"""What a task is looked up for."""


class Generation(Writing):
    """How the answers of a task are written, where a model writes them.

    One that is cut at `max_tokens` is counted; what is drawn is drawn by the evaluation's seed.
    """

    over_length: Literal["drop", "split"] = "drop"
    """What becomes of a prompt that leaves no room for an answer: it is not asked, and counted, or
    read in pieces whose answers are put together."""


class TaskSpec(Strict):
    """A task, from its YAML: the words of its rows, its scoring, or both."""

    SHOWN: ClassVar[str] = "docs/evaluate.md"
    description: str = ""
    """What it is, and what it measures."""
    kind: str | None = None
    """How evaluate scores it (`choices`, `free_text` …); without one it is not scored."""
    dataset: str | None = None
    """Dataset of the registry that evaluate asks; without one, the test split of the prepared
    data."""
    needs: tuple[Literal["prompt", "completion", "choices", "target", "images"], ...] = ()
    """What a row must hold."""
    system: str | None = None
    """System message, for rows that have none of their own."""
    instruction: str | None = None
    """What is asked, put before the first message of the user."""
    form: Literal["chat", "text"] = "chat"
    """`text`: the whole row is plain text, without question and answer."""
    tasks: tuple[str, ...] = ()
    """Tasks whose mean it is, weighted by their items; then it is a group and nothing else."""
    whole: bool = False
    """Whether all rows of any file or folder that `data` names are asked, not a test split."""
    rows: Literal["test", "held_out", "trained_on"] = "test"
    """Which rows are asked: the test split; `held_out`: that, or where it is not here the one to
    validate on; `trained_on`: the rows to train on, canaries among them, and the test split."""
    most: int | None = Field(default=None, gt=0)
    """At most so many items, of `trained_on` of each sort, where no `limit` is named."""
    entities: tuple[str, ...] = ()
    """The types of entities that are asked for."""
    as_prepared: bool = False
    """Whether prepared rows are asked in whatever words they have, be they of another task."""
    choices: tuple[str, ...] = ()
    """The choices of every item; a row with others is not asked, and counted."""
    subject: str | None = None
    """Metadata that names the subject of a row; scores stand by it, too."""
    preamble: str | None = None
    """How the prompts of its dataset begin, with metadata in braces: before worked examples it
    stands once, and through a chat template it is the system message."""
    harness: HarnessTask | None = None
    """The task as lm-evaluation-harness writes it, where it is one of its own."""
    folder: Path | None = None
    """Where that lies."""
    fewshot_by: str | None = None
    """Metadata that a row and the worked examples before it have in common."""
    generation: Generation = Generation()
    """How answers are written."""

    @property
    def has_words(self) -> bool:
        """Whether it changes how rows are put, or which are."""
        return bool(self.model_dump(include=WORDS, exclude_defaults=True))

    @property
    def words(self) -> dict[str, Any]:
        """What decides how it puts rows, as plain data."""
        return self.model_dump(mode="json", include=WORDS)


FITS: dict[Use, Callable[[TaskSpec], bool]] = {
    "prepare": lambda task: task.has_words or not (task.kind or task.tasks),
    "evaluate": lambda task: bool(task.kind or task.tasks),
}


def list_tasks(use: Use, folder: Path | None = None) -> list[str]:
    """The names of the tasks that fit a use; the user's come over the shipped ones.

    A file that is no task keeps its name: whoever asks for it learns what is wrong in it.
    """
    names = list_named(SHIPPED, folder)
    return sorted(name for name in names if _may_fit(name, use, folder))


def describe_tasks(folder: Path | None = None) -> list[dict[str, str]]:
    """What is said of each task that evaluate scores; of a file that is none, what is wrong."""
    return [_describe(name, folder) for name in list_tasks("evaluate", folder)]


def _describe(name: str, folder: Path | None) -> dict[str, str]:
    try:
        task = find_task(name, "evaluate", folder)
    except ConfigError as problem:
        return {"name": name, "kind": "", "asks": "", "description": problem.message}
    own = ", ".join(task.harness.dataset_kwargs.data_files.values()) if task.harness else ""
    asks = task.dataset or own or ", ".join(task.tasks) or "prepared data"
    kind = task.kind or "group"
    return {"name": name, "kind": kind, "asks": asks, "description": task.description}


def find_task(name: str, use: Use, folder: Path | None = None) -> TaskSpec:
    """The task of a name.

    Raises:
        ConfigError: there is none, which names the closest; or it does not fit the use.
    """
    if name not in list_named(SHIPPED, folder):
        raise unknown_name("task", name, list_tasks(use, folder))
    task = _read(name, folder)
    if not FITS[use](task):
        raise _unfit(name, use, list_tasks(use, folder))
    return task


def _read(name: str, folder: Path | None) -> TaskSpec:
    """A task from its file, which may be one of lm-evaluation-harness."""
    path = list_named(SHIPPED, folder)[name]
    document = read_yaml(path)
    if not SIGNS & document.data.keys():
        return validate(TaskSpec, document)
    task = read_harness(document)
    preamble = "{description}" if task.description else None
    said = f"{task.task}, a task in lm-evaluation-harness's YAML"
    return TaskSpec(
        description=said, kind="choices", preamble=preamble, harness=task, folder=path.parent
    )


def _unfit(name: str, use: Use, known: list[str]) -> ConfigError:
    """That a task is none for this use, and which are."""
    if use == "evaluate":
        message, write = f"the task {name} has no scoring", "its `kind`"
    else:
        message = f"the task {name} has no words to put rows in"
        write = "an `instruction`, a `system` message or what a row `needs`"
    fix = f"name one of {', '.join(known)}; write {write} into the file of a task of your own"
    return ConfigError(message, fix)


def _may_fit(name: str, use: Use, folder: Path | None) -> bool:
    try:
        return FITS[use](_read(name, folder))
    except ConfigError:
        return True
