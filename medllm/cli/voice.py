"""What a command says, and in which form: `--json`, `--quiet`, `--verbose`, `--debug`, `--offline`.

They are read from the command line before it is parsed, so that an error in it heeds them, too.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from medllm import __version__, console
from medllm.errors import ConfigError, MedllmError
from medllm.ranks import is_main

OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
HELP = {"--help", "-h"}
REPORT = "its traceback is on stderr; please report it, without any text of a patient"


def heed(arguments: Sequence[str]) -> None:
    """Take the options of all commands to heart, wherever they stand."""
    given = {*arguments[: [*arguments, "--"].index("--")]}
    console.wanted = frozenset() if given & HELP else frozenset(given)
    console.result.clear()
    if "--debug" in given:
        os.environ["MEDLLM_DEBUG"] = "1"
    if "--offline" in given:
        os.environ.update(OFFLINE)


@contextmanager
def turned_down() -> Iterator[None]:
    """With --json nothing reaches stdout meanwhile, and with --quiet nothing stderr."""
    with _closed(1, "--json"), _closed(2, "--quiet"):
        yield


@contextmanager
def places_only() -> Iterator[None]:
    """With --quiet nothing is said of a result but its place."""
    with _closed(1, "--quiet"):
        yield
    if "--quiet" in console.wanted:
        for made in console.result.get("outputs", ()):
            console.say(made["path"])


def _closed(number: int, option: str) -> AbstractContextManager[None]:
    return console.closed(number) if option in console.wanted else nullcontext()


def report_error(problem: MedllmError) -> None:
    """Make an error a part of the document."""
    told = {"kind": type(problem).__name__, "message": problem.message, "fix": problem.fix}
    console.report(error={"code": problem.exit_code, **told})


def refuse_json(command: str) -> None:
    """Raise ConfigError where --json is asked of a command that has no result."""
    if "--json" in console.wanted:
        fix = "leave --json out (docs/json.md says what has a document)"
        raise ConfigError(f"{command} has no result to print as JSON", fix)


def speak() -> None:
    """Print the one document of a command that ends, where --json asks for it (docs/json.md)."""
    if "--json" not in console.wanted or not is_main():
        return
    from medllm.artifacts.manifest import without_nan

    parts = dict(console.result)
    told = {"medllm": __version__, "command": parts.pop("command", None)}
    error = parts.pop("error", None)
    if isinstance(bug := sys.exception(), Exception):
        error = {"code": 1, "kind": type(bug).__name__, "message": "a bug of medllm", "fix": REPORT}
    document = {**told, "result": without_nan(parts)[0] or None, "error": error}
    console.show_text(json.dumps(document, indent=1, default=str).replace("\x7f", "\\u007f"))
