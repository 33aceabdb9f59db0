"""The errors a user can make, each with its remedy.

MedllmError              exit 1
├── ConfigError          exit 2   a recipe, a flag, an unknown name
├── DataError            exit 3   a dataset, a data file
├── ArtifactError        exit 4   a model, adapter, GGUF or result folder
├── SetupError           exit 5   this machine: a missing extra, no GPU, no memory, no disk
└── GateError            exit 6   a threshold was not met
"""

import copyreg
import difflib
from collections.abc import Iterable
from typing import Any

MOST_LONGER = 3
"""So many names are told that go on after what was typed."""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question that ends in a space, or nothing where no known name is close in whatever case.

    Names that go on after the whole of it come first: `ner` is the begin of `ner_bc5cdr`.
    """
    names, folded = {each.casefold(): each for each in sorted(known)}, name.casefold()
    longer = [each for each in names if each.startswith((f"{folded}_", f"{folded}-"))][:MOST_LONGER]
    close = (
        [folded]
        if folded in names
        else longer or difflib.get_close_matches(folded, names, n=1, cutoff=cutoff)
    )
    return f"did you mean {' or '.join(repr(names[each]) for each in close)}? " if close else ""


class MedllmError(Exception):
    """One line that says what is wrong, one line that says what to do, and an exit code."""

    exit_code = 1

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """How it comes out of a worker process: as it is, not made anew of its message alone."""
        new = copyreg.__newobj__  # type: ignore[attr-defined]
        return new, (type(self), *self.args), self.__dict__

    def _render_traceback_(self, *_: object) -> list[str]:
        """The two lines; IPython asks for them, and a notebook then shows no traceback."""
        return [f"error: {self.message}", f"  fix: {self.fix}"]


class ConfigError(MedllmError):
    """A recipe, a flag or a name is wrong."""

    exit_code = 2


class DataError(MedllmError):
    """A dataset or a data file is missing or unreadable."""

    exit_code = 3


class ArtifactError(MedllmError):
    """A model, adapter, GGUF file or result folder is missing, altered or of the wrong kind."""

    exit_code = 4


class SetupError(MedllmError):
    """This machine lacks something: an extra, a GPU, memory, disk space."""

    exit_code = 5


class GateError(MedllmError):
    """A result did not meet its threshold."""

    exit_code = 6
