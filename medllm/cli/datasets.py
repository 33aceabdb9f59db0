"""`medllm datasets`."""

from pathlib import Path
from typing import Annotated

import typer

from medllm import console
from medllm.cli.commands import Command, Group
from medllm.cli.options import option
from medllm.data.names import completer

app = typer.Typer(
    cls=Group,
    suggest_commands=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The dataset registry.",
)


@app.command("list", cls=Command)
def list_() -> None:
    """Show all datasets: what each is, its licence, and where it was found.

    Example: medllm datasets list
    """
    from medllm.data.registry.inventory import describe_datasets, record_datasets
    from medllm.data.registry.specs import check_specs
    from medllm.places import data_dir

    console.report(datasets=record_datasets())
    columns = ("dataset", "what it is", "rows", "access: licence", "where")
    console.table(columns, describe_datasets())
    console.say(f"here: {data_dir()}/<dataset>; the others: `medllm datasets show NAME`")
    check_specs()  # last: one that is broken hides no other


@app.command(cls=Command)
def show(
    name: Annotated[
        str, typer.Argument(help="Name of a dataset.", autocompletion=completer("dataset"))
    ],
) -> None:
    """Show what is known of a dataset, and three rows if it is open and at hand.

    Example: medllm datasets show pubmedqa
    """
    from medllm.data.registry.inventory import describe_dataset, record_datasets, sample_texts

    console.report(datasets=record_datasets(name))
    for line in describe_dataset(name):
        console.say(console.wrapped(line))
    for text in sample_texts(name):
        console.show_text(text)


@app.command(cls=Command)
def add(
    name: Annotated[
        str,
        typer.Argument(
            help="Name: one of the registry, or a new one for your own data.",
            autocompletion=completer("dataset"),
        ),
    ],
    path: Annotated[Path, typer.Argument(help="A data file, or a folder of data files.")],
    licence: str | None = option("Licence of your own data.  [default: undeclared]"),
    access: str | None = option(
        "Who may have what is made from it.  [default: private]",
        "open|non-commercial|credentialed|private",
    ),
    language: list[str] | None = option("Language of its texts, an ISO 639 code: de.", "CODE"),
) -> None:
    """Check that files parse as a dataset, and link them into the data folder.

    Columns with the usual names are recognised; a dataset.yaml in the folder says what others hold
    (docs/datasets.md).

    Example: medllm datasets add pubmedqa ~/downloads/ori_pqal.json
    """
    from medllm.data.registry.inventory import add_dataset

    told = add_dataset(name, path, licence, access, language or ())
    console.report(dataset=name, told=told)
    console.say(told)


@app.command(cls=Command)
def fetch(
    name: Annotated[
        str, typer.Argument(help="Name of a dataset.", autocompletion=completer("dataset"))
    ],
) -> None:
    """Download a dataset's files from the hub into the data folder, or say how to get them.

    A stopped download resumes where it stopped.

    Example: medllm datasets fetch medmcqa
    """
    from medllm.data.registry.inventory import fetch_dataset

    told = fetch_dataset(name)
    console.report(dataset=name, told=told)
    console.say(told)
