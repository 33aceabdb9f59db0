"""`medllm keys`."""

from dataclasses import asdict
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
    help="The keys of those who may ask a served model.",
)
Name = Annotated[str, typer.Argument(help="Whose key it is: a person, a program, a ward.")]


@app.command(cls=Command)
def add(
    name: Name,
    role: str | None = option("An admin may also take the model offline.", "user|admin"),
    expires: str | None = option("The last day on which it holds.", "2027-12-31"),
    requests_per_minute: int | None = option("Requests that may begin in a minute."),
    tokens_per_day: int | None = option("Tokens of prompts and answers in a day."),
    concurrent: int | None = option("Requests at once."),
) -> None:
    """Make a key and show it, this once; running servers know it at once.

    Nothing is kept of it but a digest. A server asks for one of these keys as soon as there is one.

    Example: medllm keys add ward-3 --expires 2027-12-31 --requests-per-minute 30
    """
    from medllm.serve.callers.keys import build_caller, own_keys

    caller = build_caller(name, role, requests_per_minute, tokens_per_day, concurrent)
    secret = own_keys().add(caller, expires)
    console.report(name=name, key=secret)
    console.show_text(secret)
    console.notice("This is the only time that the key is shown.")


@app.command("list", cls=Command)
def list_() -> None:
    """Show whose keys there are, and what they may do; never the keys.

    Example: medllm keys list
    """
    from medllm.serve.callers.keys import own_keys

    rows = [asdict(key) for key in own_keys().all_keys()]
    for row in rows:
        del row["digest"]
    console.report(keys=rows)
    if not rows:
        console.say("there are no keys; `medllm keys add NAME` makes one")
        return
    columns = ("name", "role", "expires", "requests_per_minute", "tokens_per_day", "concurrent")
    titles = ("name", "role", "expires", "requests/min", "tokens/day", "at once")
    console.table(titles, [["" if row[c] is None else row[c] for c in columns] for row in rows])


@app.command(cls=Command)
def revoke(name: Name) -> None:
    """Remove a key; running servers refuse it from their next request on.

    Example: medllm keys revoke ward-3
    """
    from medllm.serve.callers.keys import own_keys

    own_keys().revoke(name)
    console.report(revoked=name)
    console.say(f"revoked the key '{name}'")
