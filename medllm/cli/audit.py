"""`medllm audit`."""

from pathlib import Path
from typing import Annotated

import typer

from medllm import console
from medllm.cli.commands import Command, Group
from medllm.cli.options import option

app = typer.Typer(
    cls=Group,
    suggest_commands=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The audit log of a server.",
)


@app.callback()
def audit() -> None:
    """The audit log of a server."""


@app.command(cls=Command)
def verify(
    folder: Annotated[Path, typer.Argument(help="The folder of the log, which `serve` names.")],
    head: Path | None = option(
        "A file that tells the end of the log.  [default: what this machine keeps of it]"
    ),
    public_key: Path | None = option(
        "The key that signed it, as you know it.  [default: the copy beside the log]"
    ),
) -> None:
    """Check that no line of an audit log was altered, removed, moved or cut off.

    Example: medllm audit verify ~/.config/medllm/audit/gguf-q4_k_m
    """
    from medllm.serve.audit.chain import head_of
    from medllm.serve.audit.verify import verify_log

    checked = verify_log(folder, head_of(folder, head), public_key)
    console.report(
        lines=checked.lines,
        begins_at=checked.begins_at,
        signatures=checked.signatures,
        head_checked=checked.head_checked,
        torn_bytes=checked.torn_bytes,
        faults=checked.faults,
    )
    console.say(f"{checked.lines:,} lines from line {checked.begins_at:,} on")
    console.say(f"{checked.signatures:,} of them signed")
    if not checked.head_checked:
        console.notice("its end was not checked: there is no head of it on this machine (--head)")
    if checked.torn_bytes:
        console.notice(
            f"a last line without an end ({checked.torn_bytes} bytes): "
            "it is being written, or its server was killed; the next start cuts it off"
        )
    checked.require()
    console.say("the log is whole")
