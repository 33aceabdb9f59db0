"""Tasks of lm-evaluation-harness as it writes them: rows of JSON files, put by Jinja templates.

What 0.4.13 makes of them is made here, as far as no code of the file's author runs: multiple choice
over local JSON. What would change a score and is not done is refused, with the reason.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from medllm.config.base import Strict
from medllm.config.loader import Document, validate
from medllm.data.example import Example, Message, Rejected
from medllm.data.readers.rows import FILE, Row
from medllm.data.registry.datasets import Dataset
from medllm.data.registry.specs import DatasetSpec
from medllm.data.split import Split, SplitConfig
from medllm.errors import ConfigError, DataError

SIGNS = {"output_type", "doc_to_text", "dataset_path"}
"""Keys by which such a task is known."""
REFUSED = {
    "process_docs": "it is code",
    "process_results": "it is code",
    "custom_dataset": "it is code",
    "include": "copy the keys of that file into this one",
    "use_prompt": "the prompts of Promptsource are not here",
    "generation_kwargs": "only multiple choice is scored, by likelihood",
    "filter_list": "only multiple choice is scored, by likelihood",
    "gen_prefix": "the answer would begin with it",
    "doc_to_image": "only text is asked",
    "doc_to_audio": "only text is asked",
    "dataset_name": "a JSON file has no configurations",
    "repeats": "likelihoods are the same each time",
}

TEMPLATE = re.compile(r"\{[{%#]")
"""Where a part of a Jinja template begins."""


def read_harness(document: Document) -> "HarnessTask":
    """A task from its YAML.

    Raises:
        ConfigError: it says what is not done here and would change a score, or is wrong.
    """
    for key in sorted(REFUSED.keys() & document.data.keys()):
        message = f"{document.origin((key,)).label}: {key} of lm-evaluation-harness is not read"
        raise ConfigError(f"{message}: {REFUSED[key]}", "write the task without it")
    return validate(HarnessTask, document)


class Files(Strict):
    """Where the rows lie."""

    data_files: dict[str, str]
    """A JSON or JSONL file for each split, relative to the task's file."""


class Sampler(Strict):
    """How worked examples are chosen."""

    sampler: Literal["first_n", "default"] = "default"
    """medllm shows the first rows in both cases; the harness draws them by default."""


class HarnessTask(Strict):
    """A task in lm-evaluation-harness's YAML."""

    task: str
    """Its name."""
    dataset_path: Literal["json"]
    """`json` alone: other datasets are in medllm's catalog, or `medllm datasets add` takes them."""
    dataset_kwargs: Files
    output_type: Literal["multiple_choice"]
    test_split: str | None = None
    validation_split: str | None = None
    """Asked where there is no test split."""
    training_split: str | None = None
    fewshot_split: str | None = None
    """Where worked examples come from; by default the training split, else the validation split."""
    fewshot_config: Sampler = Sampler()
    num_fewshot: int = Field(0, ge=0)
    description: str = ""
    doc_to_text: str
    """A column, or a template."""
    doc_to_target: str | Annotated[int, Field(ge=0)]
    """A column or a template: the place of the right choice from 0, or its text."""
    doc_to_choice: str | tuple[str, ...] | dict[str, str]
    """The choices, or a column or a template of a list."""
    target_delimiter: Literal[" "] = " "
    fewshot_delimiter: Literal["\n\n"] = "\n\n"
    task_alias: Any = None
    tag: Any = None
    metric_list: Any = None
    metadata: Any = None
    should_decontaminate: Any = None
    doc_to_decontamination_query: Any = None

    @property
    def asked(self) -> str | None:
        """The split whose rows are asked."""
        return self.test_split or self.validation_split

    @property
    def shown(self) -> str | None:
        """The split that worked examples come from."""
        found = self.fewshot_split or self.training_split or self.validation_split
        return found if found != self.asked else None


@dataclass(frozen=True)
class HarnessData(Dataset):
    """The rows of such a task as Examples."""

    task: HarnessTask | None = None

    @classmethod
    def open(cls, task: HarnessTask, folder: Path) -> "HarnessData":
        """The files of a task whose YAML lies in a folder.

        Raises:
            ConfigError: no split is asked, or its file is not named.
            DataError: a file is not there.
        """
        if task.asked is None:
            message = f"the task {task.task} names no split that is asked"
            raise ConfigError(message, "name it as test_split or validation_split")
        named = task.dataset_kwargs.data_files
        splits = [name for name in (task.shown, task.asked) if name]
        if task.asked not in named:
            message = f"the task {task.task} names no file for its split {task.asked}"
            raise ConfigError(message, "name it below dataset_kwargs: data_files")
        files = tuple(folder / named[split] for split in splits if split in named)
        for file in files:
            if not file.is_file():
                raise DataError(f"{file}: no such file", f"see data_files of the task {task.task}")
        spec = DatasetSpec(title=task.task, shape="local", description="a task's own rows")
        return cls(task.task, spec, files, task=task)

    @property
    def _task(self) -> HarnessTask:
        assert self.task
        return self.task

    @cached_property
    def _asked_file(self) -> str:
        return str(self.files[-1])

    def split_of(self, example: Example, config: SplitConfig) -> Split:
        """Asked, or shown as a worked example."""
        return "test" if example.metadata["split"] == "test" else "train"

    def read(self, number: int, row: Row) -> Example | Rejected:
        """A row, put as the harness puts it.

        Raises:
            DataError: a template cannot be filled.
        """
        task, values = self._task, {str(key): value for key, value in row.items()}
        identity = f"{self.name}/{row.get('id', number)}"
        choices = self._choices(values, identity)
        target = self._target(values, choices, identity)
        if target is None:
            return Rejected(identity, "no label")
        if choices.count(target) > 1:
            return Rejected(identity, "ambiguous answer")
        said = self._fill("description", task.description, values, identity)
        asked = self._text(task.doc_to_text, values, identity)
        split = "test" if row.get(FILE) == self._asked_file else "train"
        return Example(
            id=identity,
            dataset=self.name,
            group=str(row.get("id", number)),
            prompt=(Message("user", f"{said}{asked}"),),
            completion=target,
            choices=choices,
            target=target,
            metadata={"split": split, **({"description": said} if said else {})},
        )

    def _choices(self, values: Mapping[str, Any], identity: str) -> tuple[str, ...]:
        found: Any = self._task.doc_to_choice
        if isinstance(found, Mapping):
            found = tuple(found.values())
        if isinstance(found, str):
            found = self._listed(found, values, identity)
        if not isinstance(found, list | tuple) or len(found) < 2:
            raise self._unfit("doc_to_choice", identity, "it gives no list of choices")
        return tuple(map(str, found))

    def _listed(self, named: str, values: Mapping[str, Any], identity: str) -> Any:
        """What a column holds or a template gives, which should be a list."""
        if (found := values.get(named)) is not None:
            return found
        text = self._fill("doc_to_choice", named, values, identity)
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return text

    def _target(
        self, values: Mapping[str, Any], choices: tuple[str, ...], identity: str
    ) -> str | None:
        """The right choice; None where the row names none of the choices."""
        named = self._task.doc_to_target
        found = named if isinstance(named, int) else values.get(named)
        if found is None and isinstance(named, str) and named not in values:
            found = self._fill("doc_to_target", named, values, identity)
            found = int(found) if found.isdecimal() else found
        if isinstance(found, int) and not isinstance(found, bool):
            if found == len(choices):
                why = f"it gives {found}, and places of {len(choices)} choices count from 0"
                raise self._unfit("doc_to_target", identity, why)
            return choices[found] if 0 <= found < len(choices) else None
        return found if found in choices else None

    def _text(self, named: str, values: Mapping[str, Any], identity: str) -> str:
        """The prompt: a column or a template, or nothing; a column's name is no prompt."""
        if values.get(named) is not None:
            return str(values[named])
        if named and not TEMPLATE.search(named):
            raise self._unfit("doc_to_text", identity, f"it has no column {named}")
        return self._fill("doc_to_text", named, values, identity)

    def _fill(self, key: str, template: str, values: Mapping[str, Any], identity: str) -> str:
        from jinja2 import TemplateError

        try:
            return str(_environment().from_string(template).render(**values))
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as problem:
            raise self._unfit(key, identity, _reason(problem)) from None

    def _unfit(self, key: str, identity: str, why: str) -> DataError:
        return DataError(f"{key} cannot be filled for {identity}: {why}", "correct the template")


def _reason(problem: Exception) -> str:
    """Why a template cannot be filled, without a word of the row, which is a patient's."""
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import SecurityError

    is_of_template = isinstance(problem, TemplateSyntaxError | SecurityError)
    if is_of_template or str(problem).endswith("' is undefined"):
        return str(problem)
    return f"its values do not fit ({type(problem).__name__})"


def _environment() -> Any:
    """Jinja as the harness has it, in a sandbox: a template reaches nothing of this machine."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = lambda text, pattern, by, count=0: re.sub(
        pattern, by, text, count=count
    )
    return made
