"""Worked examples before a question, as lm-evaluation-harness 0.4.13 puts them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from medllm.data.example import Example, Message
from medllm.engines.base import Engine
from medllm.errors import ConfigError, DataError
from medllm.models.chat.template import Template
from medllm.tasks.spec import TaskSpec

TARGET_DELIMITER, FEWSHOT_DELIMITER = " ", "\n\n"
"""What stands before an answer and after it, where there is no chat template (lm-eval's names)."""


class Shots:
    """The worked examples of a task, and what is put before its questions."""

    def __init__(self, name: str, spec: TaskSpec, count: int, pool: Iterable[Example]) -> None:
        """Take the first `count` rows of a pool that have an answer, for each value of its key."""
        self._name, self._spec, self._count = name, spec, count
        self._examples: defaultdict[str, list[Example]] = defaultdict(list)
        for row in pool if count else ():
            examples = self._examples[self._key(row)]
            if row.target and row.prompt and len(examples) < count:
                examples.append(row)
            elif not spec.fewshot_by and len(examples) == count:
                break

    @property
    def ids(self) -> list[str]:
        """The ids of all worked examples."""
        return [row.id for examples in self._examples.values() for row in examples]

    def put(self, item: Example, *, in_chat: bool, takes_system: bool = True) -> Example:
        """The question with its worked examples, and with the preamble where it belongs.

        Raises:
            ConfigError: there are fewer examples than are asked for.
            DataError: a prompt lacks the preamble.
        """
        preamble = self._preamble(item)
        examples = self._before(item)
        if in_chat:
            begin = [Message("system", preamble)] if preamble and takes_system else []
            turns = [turn for row in examples for turn in self._turns(row)]
            return replace(item, prompt=(*begin, *turns, *self._asked(item)))
        if not examples:
            return item
        worked = (
            f"{self._text(row)}{TARGET_DELIMITER}{row.target}{FEWSHOT_DELIMITER}"
            for row in examples
        )
        whole = f"{preamble}{''.join(worked)}{self._text(item)}"
        return replace(item, prompt=(Message("user", whole),))

    def is_system_refused(self, engine: Engine, items: Sequence[Example]) -> bool:
        """Whether a chat template takes no system message, which the preamble would be."""
        preamble = self._preamble(items[0]) if items else ""
        if not preamble or not isinstance(engine, Template) or not engine.has_chat_template:
            return False
        try:
            engine.render([Message("system", preamble), Message("user", "?")])
        except DataError:
            return True
        return False

    def _before(self, item: Example) -> list[Example]:
        found = self._examples.get(self._key(item), []) if self._count else []
        if len(found) < self._count:
            of = f" of {self._key(item)}" if self._spec.fewshot_by else ""
            message = f"{self._name} has {len(found)} rows{of} to show as worked examples"
            fix = "lower evaluate.num_fewshot, or put the dataset's dev or train file beside it"
            raise ConfigError(f"{message}, and num_fewshot asks for {self._count}", fix)
        return found

    def _key(self, row: Example) -> str:
        by = self._spec.fewshot_by
        return str(row.metadata.get(by, "")) if by else ""

    def _preamble(self, row: Example) -> str:
        """The words with the row's metadata; `_` in them are blanks where the prompt has those."""
        words, begin = self._spec.preamble or "", row.prompt[0].content if row.prompt else ""
        try:
            said = words.format_map({key: str(value) for key, value in row.metadata.items()})
            return said if begin.startswith(said) else said.replace("_", " ")
        except (LookupError, ValueError) as problem:
            message = f"the preamble of {self._name} cannot be filled for {row.id}: {problem}"
            raise DataError(message, "name metadata of its rows in braces") from problem

    def _asked(self, row: Example) -> tuple[Message, ...]:
        """The prompt without the preamble."""
        preamble = self._preamble(row)
        if not preamble:
            return row.prompt  # which a row that is a text to go on from does not have
        at = next((n for n, turn in enumerate(row.prompt) if turn.role == "user"), 0)
        if not row.prompt[at].content.startswith(preamble):
            message = f"the prompt of {row.id} does not begin with the preamble of {self._name}"
            raise DataError(message, "see how the dataset's prompts begin")
        said = replace(row.prompt[at], content=row.prompt[at].content.removeprefix(preamble))
        return (*row.prompt[:at], said, *row.prompt[at + 1 :])

    def _text(self, row: Example) -> str:
        return "\n".join(turn.content for turn in self._asked(row))

    def _turns(self, row: Example) -> tuple[Message, ...]:
        asked = (turn for turn in self._asked(row) if turn.role != "system")
        return (*asked, Message("assistant", row.target or ""))
