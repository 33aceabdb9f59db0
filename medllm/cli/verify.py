"""`medllm verify`."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that medllm wrote.")],
) -> None:
    """Hash an artifact anew and compare it with its manifest, its card and its parents.

    Example: medllm verify runs/quickstart/merge
    """
    from medllm import console
    from medllm.artifacts.verify import verify_artifact

    report = verify_artifact(folder)
    manifest = report.manifest
    fields = {"kind", "format", "identity"}
    console.report(
        path=folder,
        **manifest.model_dump(mode="json", include=fields),
        files=len(manifest.files),
        unchecked=report.unchecked,
    )
    files = f"{console.counted(len(manifest.files), 'file')} as recorded"
    console.say(f"{folder}: {manifest.kind} {manifest.identity[:16]}, {files}")
    for line in report.unchecked:
        console.say(f"  not checked: {line}")
