"""The names that options take, by kind: what a shell completes, what a wrong one means."""

from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
VERBS = ("calibrate", "prepare", "finetune", "merge", "quantize", "evaluate", "generate", "serve")
FILES = {
    "dataset": ("data/catalog/*.yaml",),
    "mix": ("data/mixes/*.yaml",),
    "task": ("tasks/*.yaml",),
    "recipe": ("configs/*/*.yaml", "../configs/*/*.yaml"),  # as `medllm.recipe` finds them
}
"""Where the shipped ones of a kind lie."""
WORDS = {"verb": VERBS, "model": ("medllm/tiny",)}
"""Those that lie in no file."""


def list_shipped(kind: str) -> set[str]:
    """The names of a kind that come with medllm as files."""
    return {path.stem for pattern in FILES.get(kind, ()) for path in PACKAGE.glob(pattern)}


def list_names(kind: str) -> list[str]:
    """The known names of a kind; datasets of the user's own, too. Loads nothing heavy."""
    theirs = _own() if kind == "dataset" else ()
    return sorted({*WORDS.get(kind, ()), *list_shipped(kind), *theirs})


def _own() -> Iterator[str]:
    from medllm.places import data_dir

    if data_dir().is_dir():
        yield from (path.name for path in data_dir().iterdir() if path.is_dir())


def completer(kind: str) -> Callable[[str], list[str]]:
    """What completes a name of a kind, or of `a|b|c`; in a list with commas the last one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        words = kind.split("|") if "|" in kind else list_names(kind)
        return [f"{before}{comma}{word}" for word in words if word.startswith(begun)]

    return complete
