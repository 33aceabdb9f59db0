"""Inputs of a verb: what they are, whether they are whole, and the terms they carry."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_file, digest_files
from medllm.artifacts.manifest import NAME, DataTerm, Manifest, Parent, check_files
from medllm.errors import ArtifactError

FOREIGN = "foreign"


@dataclass(frozen=True)
class Input:
    """An input of a verb: its place, its manifest if medllm made it, its identity as a parent."""

    path: Path
    manifest: Manifest | None
    parent: Parent

    @property
    def data_terms(self) -> tuple[DataTerm, ...]:
        """The terms that follow everything made from this input."""
        return self.manifest.data_terms if self.manifest else ()


def open_input(path: Path, kinds: Collection[str], role: str) -> Input:
    """The input at `path`, checked to be complete, unaltered and of one of `kinds`.

    A folder or file without a manifest is foreign: digested, its terms unknown, said once.

    Raises:
        ArtifactError: missing, unfinished, altered, or of another kind.
    """
    folder = path if path.is_dir() else path.parent
    unfinished = path.with_name(path.name + ".unfinished")
    if not path.exists() or _is_unfinished(folder):
        if unfinished.is_dir() or path.exists():
            raise ArtifactError(
                f"{path} is unfinished",
                "run the command that makes it again; it goes on where it stopped",
            )
        raise ArtifactError(
            f"{role}: no such file or folder: {path}", "check the path, or make it first"
        )
    if not (folder / NAME).is_file():
        return _foreign(path, role)
    manifest = Manifest.read(folder)
    if manifest.kind not in kinds:
        expected = " or ".join(sorted(kinds))
        raise ArtifactError(
            f"{role}: {path} is a {manifest.kind}, not a {expected}", f"name a {expected}"
        )
    check_files(folder, manifest)
    return Input(path, manifest, manifest.as_parent(folder))


def _is_unfinished(folder: Path) -> bool:
    """Whether a job is at work in a folder, or was interrupted there."""
    return folder.name.endswith(".unfinished") and (folder / "request.json").is_file()


def _foreign(path: Path, role: str) -> Input:
    if path.is_file():
        identity = digest_file(path)
    else:
        identity = digest_files(
            path,
            (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")),
        )
    _announce_foreign(path, role)
    return Input(path, None, Parent(kind=FOREIGN, path=str(path), identity=identity))


_announced: set[Path] = set()


def _announce_foreign(path: Path, role: str) -> None:
    if path not in _announced:
        _announced.add(path)
        console.notice(f"{role}: {path} was not made by medllm; its data terms are not known")
