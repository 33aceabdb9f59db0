"""Family trees of artifacts: what one was made from, and what was made from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from medllm import console
from medllm.artifacts.manifest import NAME, Manifest, Parent, strictest
from medllm.config.base import is_there
from medllm.errors import ArtifactError
from medllm.places import short_path

Artifact = tuple[Path, Manifest]
"""A folder with its manifest."""


@dataclass(frozen=True)
class Node:
    """An artifact, or a parent that is none on this machine, and what hangs below it."""

    path: str
    kind: str
    identity: str
    access: str | None = None
    """The strictest term of an artifact's data."""
    note: str = ""
    below: tuple["Node", ...] = ()

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Self:
        """An artifact, without anything below it."""
        access = strictest(manifest.data_terms) or "terms unknown"
        return cls(str(folder), manifest.kind, manifest.identity, access)

    def lines(self) -> Iterator[str]:
        """It and what hangs below it, a line each."""
        shown = short_path(Path(self.path)) if self.access else self.path
        said = f", {self.access}" if self.access else self.note
        yield f"{shown}  {self.kind} {self.identity[:12]}{said}"
        for node in self.below:
            branch, beside = ("└─ ", "   ") if node is self.below[-1] else ("├─ ", "│  ")
            first, *others = node.lines()
            yield from (f"{branch}{first}", *(f"{beside}{line}" for line in others))


@dataclass(frozen=True)
class Lineage:
    """What an artifact was made from; and what was made from it, or from a dataset."""

    made_from: tuple[Node, ...]
    made: tuple[Node, ...]

    def lines(self) -> list[str]:
        """The trees, a line each node."""
        above = [line for node in self.made_from for line in ("made from:", *node.lines())]
        below = [line for node in self.made for line in node.lines()]
        made = ["", "made from it:", *below] if len(below) > 1 else []
        return [*above, *made] if above else below


def find_lineage(target: str, runs: Path) -> Lineage:
    """What an artifact was made from, and what in `runs` was made from it.

    Where `target` is the name of a dataset: what in `runs` saw it.

    Raises:
        ArtifactError: the folder is no artifact, or nothing saw a dataset of that name.
    """
    among, folder = list(_find_artifacts(runs)), Path(target)
    if not folder.is_dir():
        return Lineage((), _saw(target, among))
    one = folder, Manifest.read(folder)
    return Lineage((_ancestry(one),), (_descent(one, among),))


def _find_artifacts(runs: Path) -> Iterator[Artifact]:
    """The artifacts below a folder; one whose manifest cannot be read is said and left out."""
    for path in sorted(runs.rglob(NAME)):
        try:
            yield path.parent, Manifest.read(path.parent)
        except ArtifactError as problem:
            console.notice(f"left out: {problem.message}")


def _descent(one: Artifact, among: Sequence[Artifact], line: frozenset[str] = frozenset()) -> Node:
    line = _longer(line, one)
    made = [each for each in among if one[1].identity in _parent_identities(each)]
    return replace(Node.of(*one), below=tuple(_descent(each, among, line) for each in made))


def _saw(name: str, among: Sequence[Artifact]) -> tuple[Node, ...]:
    """What was made from a dataset's rows, and below each what came of it."""
    seen = [one for one in among if name in {term.dataset for term in one[1].data_terms}]
    known = {manifest.identity for _, manifest in seen}
    first = [one for one in seen if not known & _parent_identities(one)]
    if not first:
        datasets = sorted({term.dataset for _, manifest in among for term in manifest.data_terms})
        message = f"'{name}' is no artifact, and no artifact here saw a dataset of that name"
        others = f", or one of: {', '.join(datasets)}" if datasets else ""
        fix = f"name a folder that medllm wrote{others}"
        raise ArtifactError(message, fix)
    return tuple(_descent(one, seen) for one in first)


def _parent_identities(one: Artifact) -> set[str]:
    return {parent.identity for parent in one[1].parents}


def _longer(line: frozenset[str], one: Artifact) -> frozenset[str]:
    """The identities of a line of descent with one more.

    Raises:
        ArtifactError: it is in the line already, which no honest manifest can say.
    """
    folder, identity = one[0], one[1].identity
    if identity in line:
        message = f"{folder}: its manifests say that it was made from itself"
        raise ArtifactError(message, f"see what `medllm verify {folder}` says")
    return line | {identity}


def _ancestry(one: Artifact, line: frozenset[str] = frozenset()) -> Node:
    line = _longer(line, one)
    return replace(Node.of(*one), below=tuple(_ancestor(each, line) for each in one[1].parents))


def _ancestor(parent: Parent, line: frozenset[str]) -> Node:
    folder = Path(parent.path)
    folder = folder if not is_there(folder) or folder.is_dir() else folder.parent
    named = Node(parent.path, parent.kind, parent.identity)
    if not is_there(folder / NAME):
        return named
    one = folder, Manifest.read(folder)
    if one[1].identity != parent.identity:
        return replace(named, note=": another artifact is there now")
    return _ancestry(one, line)
