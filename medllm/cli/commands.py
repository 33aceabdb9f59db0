"""How commands take what holds for all of them, and how their help is laid out."""

import re
import textwrap
from collections.abc import Collection
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

from medllm import console

EVERYWHERE = {
    "--json": "Print the result, or the error, as one JSON document.",
    "--quiet": "Print only errors, and where the result lies.",
    "--verbose": "Say what is read and chosen.",
    "--debug": "Show the traceback of an error.",
    "--offline": "Never ask the hub.",
}
"""Options that may stand before a command or after it; `heed` in `voice.py` reads them."""


class Command(TyperCommand):
    """A command whose example can be copied from its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own options, and those of all commands, of which the help shows --json."""
        return with_everywhere(super().get_params(ctx), {"--json"})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is left of the arguments; notes the command's name for the document of --json."""
        console.report(command=ctx.command_path.removeprefix("medllm "))
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The text, and below it the example as lines that are not wrapped."""
        text, _, example = (self.help or "").partition("Example: ")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{text.strip()}\n\n\b\nExample:\n{_fold(example)}")


class Group(TyperGroup):
    """A group of commands whose summaries are shown whole."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of the group; those of all commands are shown for `medllm` itself."""
        return with_everywhere(super().get_params(ctx), () if ctx.parent else EVERYWHERE)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each command with the first paragraph of its help."""
        first = ((name, (each.help or "").split("\n\n")[0]) for name, each in self.commands.items())
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join(text.split())) for name, text in first])


def with_everywhere(own: list[Any], shown: Collection[str]) -> list[Any]:
    """The parameters of a command, and before --help, the last, the options of all commands."""
    shared = [
        TyperOption(
            param_decls=[name],
            is_flag=True,
            help=text,
            hidden=name not in shown,
            expose_value=False,
        )
        for name, text in EVERYWHERE.items()
    ]
    return [*own[:-1], *shared, own[-1]]


def _fold(example: str) -> str:
    """A command in lines that a shell reads as one, each with whole options."""
    parts = re.sub(r" (?=-{1,2}\w)", "\n", " ".join(example.split())).split("\n")
    whole = [part.replace(" ", "\0") for part in parts]
    lines = textwrap.wrap(" ".join(whole), 72, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ").join(["  ", ""])
