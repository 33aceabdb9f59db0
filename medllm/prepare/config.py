"""The `prepare:` section."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medllm.config.base import NOT_IDENTITY, DataConfig, DatasetRef, Place, Ref, Strict
from medllm.data.clean import CleanConfig
from medllm.data.split import MUCH, SplitConfig


class TaskShare(Strict):
    """How much of a task goes into the training file."""

    share: Annotated[float, Field(gt=0)] | None = None
    """Its share beside the other tasks' shares; all tasks have one, or none has."""
    max_examples: int | None = Field(default=None, gt=0)
    """At most so many examples."""


class PrepareConfig(DataConfig):
    """How to prepare a dataset."""

    datasets: tuple[DatasetRef, ...] = ()
    """Names of the registry, or paths of your own files or folders."""
    task: Annotated[str, Field(min_length=1)] | None = None
    """The task that all rows are put as; default: rows keep their own words."""
    tasks: dict[str, TaskShare] = {}
    """Each row is put as the task that its dataset says; other tasks' rows are left out."""
    task_dir: Place | None = None
    """Folder with your own tasks (`<name>.yaml`)."""
    max_examples: int | None = Field(default=None, gt=0)
    """At most so many examples of each dataset and split, drawn by seed."""
    system: str | None = None
    """System message put before each prompt; default: the task's."""
    cleaning: CleanConfig = CleanConfig()
    """How texts are cleaned."""
    keep_steps: bool = False
    """Whether each step's text is kept in `steps.jsonl` (or `.csv`)."""
    max_overlap: float = Field(default=MUCH, gt=0, le=1)
    """A training row that holds at least this share of a held-out row's text is left out."""
    format: Literal["jsonl", "messages", "csv"] = "jsonl"
    """Form of the files: JSONL, JSONL with `messages` for other trainers, too, or a table."""
    canaries: int = Field(default=0, ge=0, le=1000)
    """So many synthetic rows with a secret number are planted in the training file, and listed in
    `canaries.jsonl`: the task `memorisation` of evaluate tries to draw them out of the model."""
    tokenizer: Ref | None = None
    """Whose chat template the report's samples are put through; default: the recipe's model."""
    workers: int | None = Field(default=None, gt=0, json_schema_extra=NOT_IDENTITY)
    """Processes; default one a processor, at most 8."""
    split: SplitConfig = SplitConfig()
    """What is held out; a shared key."""

    @model_validator(mode="after")
    def _check_tasks(self) -> "PrepareConfig":
        if self.task and self.tasks:
            raise ValueError("name one `task`, or several with their shares as `tasks`")
        if len({share.share is None for share in self.tasks.values()}) > 1:
            raise ValueError("give all tasks a share, or none")
        return self
