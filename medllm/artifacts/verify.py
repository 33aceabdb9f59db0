"""Verifying an artifact: its files hashed anew, its identity, its card, its parents."""

from dataclasses import dataclass
from pathlib import Path

from medllm import __version__
from medllm.artifacts.card import render_card
from medllm.artifacts.manifest import CARD_KINDS, NAME, Manifest, file_problems, unlisted_files
from medllm.config.base import is_there
from medllm.errors import ArtifactError


@dataclass(frozen=True)
class Report:
    """What holds, and what could not be checked."""

    manifest: Manifest
    unchecked: tuple[str, ...]


def verify_artifact(folder: Path) -> Report:
    """The report of an artifact that is as its manifest says.

    Raises:
        ArtifactError: it is not; lists everything that is wrong.
    """
    if not is_there(folder) or not folder.is_dir():
        fix = "name a folder that medllm wrote"
        raise ArtifactError(f"no such folder: {str(folder):.300}", fix)
    manifest = Manifest.read(folder)
    problems = file_problems(folder, manifest, anew=True)
    problems += [f"{path} is not in the manifest" for path in unlisted_files(folder, manifest)]
    problems += manifest.problems()
    unchecked = []
    card = folder / "README.md"
    if manifest.kind in CARD_KINDS and not _is_card(card, manifest):
        if manifest.medllm_version == __version__ or not card.is_file():
            problems.append("README.md: the card does not say what the manifest says")
        else:  # each version words its cards in its own way
            unchecked.append(f"README.md: the card of medllm {manifest.medllm_version}")
    for parent in manifest.parents:
        path = Path(parent.path)
        if not is_there(path / NAME):
            unchecked.append(f"parent {path}: not an artifact on this machine")
        else:
            problems += _parent_problems(path, parent.identity)
    if problems:
        fix = "make it again, or restore the files from their source"
        raise ArtifactError(f"{folder}: " + "\n".join(problems), fix)
    return Report(manifest, tuple(unchecked))


def check_descent(folder: Path) -> None:
    """Raise ArtifactError where a model is made from another one than now stands in that place.

    What is no artifact, or was made elsewhere, is not checked.
    """
    if not is_there(folder / NAME):
        return
    for parent in Manifest.read(folder).parents:
        path = Path(parent.path)
        if parent.kind not in CARD_KINDS or not is_there(path / NAME):
            continue
        if _parent_problems(path, parent.identity):
            message = f"{folder} was made from another {parent.kind} than {path} holds now"
            raise ArtifactError(message, "make it again with --overwrite, or name another model")
        check_descent(path)


def _parent_problems(folder: Path, identity: str) -> list[str]:
    try:
        found = Manifest.read(folder)
    except ArtifactError as problem:
        return [f"parent {problem.message}"]
    return [] if found.identity == identity else [f"parent {folder}: another artifact is there now"]


def _is_card(path: Path, manifest: Manifest) -> bool:
    return path.is_file() and path.read_bytes() == render_card(manifest).encode()
