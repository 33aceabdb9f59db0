"""The entry point: commands, global options, and the exit codes of errors."""

import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from medllm import __version__, console
from medllm.cli import audit, datasets, keys, recipes, voice
from medllm.cli.commands import Command, Group
from medllm.cli.last_net import explain, explain_import, let_go
from medllm.data.names import VERBS
from medllm.errors import ConfigError, MedllmError
from medllm.ranks import VARIABLES, is_main

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM
STOPPED = {INTERRUPTED: "interrupted", TERMINATED: "ended by SIGTERM"}
RESUME = "run the same command again to resume"
RESUMED = {*VERBS, "run", "datasets fetch"} - {"serve"}
"""The commands that go on where they stopped."""
PURPOSE = """From raw medical text to a served, checked model, on machines that keep their data.

\b
Start with:
  medllm doctor                    what this machine can do
  medllm run --config quickstart   all of it on a tiny model, in minutes"""
SECONDS_OF_SILENCE = 10
"""How long a process keeps its error to itself where the main one has most likely found the same:
it says it, ends, and the launcher ends the others."""

app = typer.Typer(
    name="medllm",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    cls=Group,
    suggest_commands=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=PURPOSE,
)
for name in (*VERBS, "chat", "review", "run", "verify", "lineage", "doctor"):
    app.command(cls=Command)(getattr(importlib.import_module(f"medllm.cli.{name}"), name))
for group in (datasets, recipes, keys, audit):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


class Terminated(SystemExit):
    """SIGTERM came: what was begun is cleaned up as after Ctrl-C."""


def _show_version(wanted: bool) -> None:
    if wanted:
        console.report(version=__version__)
        console.say(f"medllm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Set what holds for every command."""


def main() -> None:
    """Run the command line and exit."""
    _open_streams()
    _quiet_libraries()
    if "LOCAL_RANK" not in os.environ:  # a launcher ends all its processes at once
        signal.signal(signal.SIGTERM, _terminate)
    stdout = sys.stdout
    try:
        ended = run_command(sys.argv[1:])
    except SystemExit:
        if sys.stdout is stdout:
            raise
        ended = console.PIPE_CLOSED  # typer replaces a stream whose reader has gone
    sys.exit(_flushed(ended))


def _terminate(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends without cleaning up
    raise Terminated(TERMINATED)


def _open_streams() -> None:
    """Standard streams that take any character; one that is closed leads nowhere.

    Else a file that is opened later would take its number, and what is printed would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # it takes the lowest free number; child processes need it too
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flushed(ended: int) -> int:
    """The exit code, once all is out; what cannot be written does not fail once more at the end."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return console.PIPE_CLOSED if isinstance(problem, BrokenPipeError) else ended
    return ended


def run_command(arguments: Sequence[str]) -> int:
    """The exit code of a command line; errors are printed as one line and its remedy."""
    voice.heed(arguments)
    try:
        return _attempt(arguments)
    finally:
        voice.speak()


def _attempt(arguments: Sequence[str]) -> int:
    try:
        _check_launcher()
        _check_arguments(arguments)
        with voice.turned_down():
            result = commands()(args=list(arguments), prog_name="medllm", standalone_mode=False)
    except (OSError, MemoryError, RecursionError) as problem:
        let_go(problem)
        return _report(explain(problem))
    except ImportError as problem:
        if refused := explain_import(problem):
            return _report(refused)
        raise
    except MedllmError as problem:
        let_go(problem)
        return _report(problem)
    except TyperException as problem:
        return _report_usage(problem, arguments)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Terminated:
        result = TERMINATED
    if told := STOPPED.get(result):
        fix = RESUME if console.result.get("command") in RESUMED else ""
        console.notice(f"{told}; {fix}" if fix else told)
        error = {"code": result, "kind": "Interrupted", "message": told, "fix": fix}
        console.report(error=error)
    return result if isinstance(result, int) else 0


@cache
def commands() -> Any:
    """All commands as they are parsed; a process that runs several builds them once."""
    return typer.main.get_command(app)


def _check_launcher() -> None:
    """Raise ConfigError where a launcher's variable is no number."""
    for name in VARIABLES if "LOCAL_RANK" in os.environ else ():
        if not os.environ.get(name, "0").isdecimal():
            fix = f"`unset {name}`, or start it with a launcher that sets it"
            raise ConfigError(f"the environment variable {name} is not a number", fix)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise ConfigError for an empty argument; as a path it would be the working folder."""
    for number, argument in enumerate(arguments):
        flag, is_pair, value = argument.partition("=")
        is_flag = argument.startswith("--") and bool(is_pair)
        if not (value if is_flag else argument).strip():
            before = arguments[number - 1] if number else "medllm"
            message = f"{flag if is_flag else before}: followed by an empty argument"
            fix = "write one, or leave it out; perhaps a variable of the shell is not set"
            raise ConfigError(message, fix)


def _report(problem: MedllmError) -> int:
    if not is_main():
        time.sleep(SECONDS_OF_SILENCE)
    if os.environ.get("MEDLLM_DEBUG"):
        console.notice(traceback.format_exc().rstrip())
    console.error(problem)
    voice.report_error(problem)
    return problem.exit_code


def _report_usage(problem: TyperException, arguments: Sequence[str]) -> int:
    message = problem.message or problem.format_message()
    if type(problem).__name__ == "NoArgsIsHelpError":  # its message is the help
        console.notice(message)
        return ConfigError.exit_code
    from medllm.cli.near_misses import meant_by

    context = getattr(problem, "ctx", None)
    first = [word for word in arguments[:1] if word.isalpha()]
    command = context.command_path if context else " ".join(["medllm", *first])
    message = message[:1].lower() + message[1:].rstrip(".")
    if problem.message and (option := getattr(problem, "param", None)):
        message = f"{option.opts[0]}: {message}"
    hint = meant_by(message, context.command, arguments) if context else ""
    return _report(ConfigError(message, f"{hint}see `{command} --help`"))


def _quiet_libraries() -> None:
    """No banners, and no bars of theirs where there is no terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a line for each retry
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
