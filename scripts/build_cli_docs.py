"""Write `docs/cli.md`: the `--help` of every command, as it looks 80 columns wide.

Run `.venv/bin/python scripts/build_cli_docs.py` after a change to the command line; a test compares
the two.
"""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from medllm.cli.main import app, run_command

DOCUMENT = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 80
HEAD = """# Commands

| what you want | command |
|---|---|
| all steps of a [recipe](recipes.md) | `medllm run --config RECIPE` |
| one step | `medllm calibrate`, `prepare`, `finetune`, `merge`, `quantize`, `evaluate` |
| answers | `medllm generate`, `chat`, `serve` |
| to see which data can be read | `medllm datasets list`, `show NAME` |
| data under a name | `medllm datasets add NAME PATH`, `fetch NAME` |
| whether an audit log is whole | `medllm audit verify FOLDER` |
| keys for those who may ask a served model | `medllm keys add NAME`, `list`, `revoke NAME` |
| a recipe to start from | `medllm recipes list`, `show NAME`, `copy NAME` |
| to know that a result is whole | `medllm verify DIR` |
| to know which models saw a dataset | `medllm lineage DATASET` |
| to know what a model was made from | `medllm lineage DIR` |
| to know what this machine can do | `medllm doctor` |

`--json` ([its forms](json.md)), `--quiet`, `--verbose`, `--debug` and `--offline` hold for all
commands, before the command or after it. Each ends with one of these
[exit codes](troubleshooting.md#exit-codes).

Below stands what `--help` prints. Written by `scripts/build_cli_docs.py`: change the command, then
run that script.
"""


def render() -> str:
    """The whole page."""
    sections = (
        f"## {' '.join(('medllm', *names))}\n\n```text\n{render_help(names)}\n```\n"
        for names in list_commands()
    )
    return "\n".join((HEAD, *sections))


def list_commands() -> Iterator[tuple[str, ...]]:
    """Every command by its names, `()` for medllm itself, each group before its commands."""
    yield from _walk(typer.main.get_command(app), ())


def _walk(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, (*names, name))


def render_help(names: tuple[str, ...]) -> str:
    """What `medllm NAMES --help` prints.

    Raises:
        RuntimeError: it printed no help.
    """
    page = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS=str(WIDTH)), redirect_stdout(page):
        code = run_command([*names, "--help"])
    if code:
        raise RuntimeError(f"medllm {' '.join(names)} --help: exit code {code}")
    return "\n".join(line.rstrip() for line in page.getvalue().strip().splitlines())


def main() -> None:
    """Write the page."""
    DOCUMENT.write_text(render(), encoding="utf-8")
    print(f"wrote {DOCUMENT.name}")


if __name__ == "__main__":
    main()
