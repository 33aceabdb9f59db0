"""`medllm lineage`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medllm.cli.options import option


def lineage(
    target: Annotated[
        str, typer.Argument(metavar="DIR", help="A folder that medllm wrote, or a dataset's name.")
    ],
    runs: str | None = option("Where to look for what was made from it.  [default: runs]", "DIR"),
) -> None:
    """Draw what an artifact was made from, and what was made from it or from a dataset.

    Example: medllm lineage pubmedqa --runs runs
    """
    from medllm import console
    from medllm.artifacts.tree import find_lineage

    found = find_lineage(target, Path(runs or "runs"))
    console.report(**asdict(found))
    console.say("\n".join(found.lines()))
