"""Verifying an artifact: its files hashed anew, its identity, its card, its parents."""

from dataclasses import dataclass
from pathlib import Path

from medllm import __version__
from medllm.artifacts.card import CARD_KINDS, render_card
from medllm.artifacts.manifest import NAME, Manifest, file_problems, identify, is_volatile
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
    if not folder.is_dir():
        raise ArtifactError(f"no such folder: {folder}", "name a folder that medllm wrote")
    manifest = Manifest.read(folder)
    problems = file_problems(folder, manifest, anew=True)
    problems += _unlisted(folder, manifest)
    if (
        identify(manifest.kind, manifest.settings, manifest.parents, manifest.files)
        != manifest.identity
    ):
        problems.append(f"{NAME}: the identity does not fit the content: it was altered")
    card = folder / "README.md"
    unchecked = []
    if manifest.kind in CARD_KINDS and not _is_card(card, manifest):
        if manifest.medllm_version == __version__ or not card.is_file():
            problems.append("README.md: the card does not say what the manifest says")
        else:  # each version words its cards in its own way
            unchecked.append(f"README.md: the card of medllm {manifest.medllm_version}")
    parents = [_check_parent(Path(parent.path), parent.identity) for parent in manifest.parents]
    problems += [f"parent {problem}" for problem, _ in parents if problem]
    if problems:
        raise ArtifactError(
            f"{folder}: " + "\n".join(problems),
            "make it again, or restore the files from their source",
        )
    unchecked += [unknown for _, unknown in parents if unknown]
    return Report(manifest, tuple(unchecked))


def _unlisted(folder: Path, manifest: Manifest) -> list[str]:
    known = {file.path for file in manifest.files}
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        f"{path} is not in the manifest"
        for path in paths
        if path.as_posix() not in known and not is_volatile(path)
    ]


def _is_card(path: Path, manifest: Manifest) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == render_card(manifest)


def _check_parent(path: Path, identity: str) -> tuple[str | None, str | None]:
    """(what is wrong, what could not be checked) of a parent."""
    if not (path / NAME).is_file():
        return None, f"parent {path}: not an artifact on this machine"
    if Manifest.read(path).identity != identity:
        return f"{path}: is another one now", None
    return None, None
