"""Family trees of artifacts: what one was made from, and what was made from it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from medllm import console
from medllm.artifacts.manifest import NAME, Manifest, Parent, strictest
from medllm.config.base import is_there
from medllm.errors import ArtifactError
from medllm.places import short_path

T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    """A folder with its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def label(self) -> str:
        """Where it is, what it is, and the strictest term of its data."""
        access = strictest(self.manifest.data_terms) or "terms unknown"
        identity = self.manifest.identity[:12]
        return f"{short_path(self.folder)}  {self.manifest.kind} {identity}, {access}"


def draw_lineage(target: str, runs: Path) -> list[str]:
    """What an artifact was made from, and what in `runs` was made from it; a line each.

    Where `target` is the name of a dataset: what in `runs` saw it.

    Raises:
        ArtifactError: the folder is no artifact, or nothing saw a dataset of that name.
    """
    among = list(_find_artifacts(runs))
    folder = Path(target)
    if not folder.is_dir():
        return _draw_dataset(target, among)
    artifact = Artifact(folder, Manifest.read(folder))
    draw = partial(_ancestors, line=_longer(frozenset(), artifact))
    above = _branches(artifact.manifest.parents, draw)
    below = _draw_descendants(artifact, among)
    made = ["", "made from it:", *below] if len(below) > 1 else []
    return ["made from:", artifact.label, *above, *made]


def _find_artifacts(runs: Path) -> Iterator[Artifact]:
    """The artifacts below a folder; one whose manifest cannot be read is said and left out."""
    for path in sorted(runs.rglob(NAME)):
        try:
            yield Artifact(path.parent, Manifest.read(path.parent))
        except ArtifactError as problem:
            console.notice(f"left out: {problem.message}")


def _draw_descendants(artifact: Artifact, among: Sequence[Artifact]) -> list[str]:
    def below(parent: Artifact, line: frozenset[str] = frozenset()) -> tuple[str, list[str]]:
        line = _longer(line, parent)
        made = [one for one in among if parent.manifest.identity in _parent_identities(one)]
        return parent.label, list(_branches(made, partial(below, line=line)))

    label, lines = below(artifact)
    return [label, *lines]


def _draw_dataset(name: str, among: Sequence[Artifact]) -> list[str]:
    """What was made from a dataset's rows, and below each what came of it."""
    seen = [one for one in among if name in {term.dataset for term in one.manifest.data_terms}]
    known = {one.manifest.identity for one in seen}
    first = [one for one in seen if not known & _parent_identities(one)]
    if not first:
        datasets = sorted({term.dataset for one in among for term in one.manifest.data_terms})
        raise ArtifactError(
            f"'{name}' is no artifact, and no artifact here saw a dataset of that name",
            f"name a folder that medllm wrote, or one of: {', '.join(datasets) or 'none'}",
        )
    return [line for one in first for line in _draw_descendants(one, seen)]


def _parent_identities(artifact: Artifact) -> set[str]:
    return {parent.identity for parent in artifact.manifest.parents}


def _longer(line: frozenset[str], artifact: Artifact) -> frozenset[str]:
    """The identities of a line of descent with one more.

    Raises:
        ArtifactError: it is in the line already, which no honest manifest can say.
    """
    identity = artifact.manifest.identity
    if identity in line:
        message = f"{artifact.folder}: its manifests say that it was made from itself"
        raise ArtifactError(message, f"see what `medllm verify {artifact.folder}` says")
    return line | {identity}


def _ancestors(parent: Parent, line: frozenset[str]) -> tuple[str, list[str]]:
    folder = Path(parent.path)
    folder = folder if not is_there(folder) or folder.is_dir() else folder.parent
    if not is_there(folder / NAME):
        return f"{parent.path}  {parent.kind} {parent.identity[:12]}", []
    artifact = Artifact(folder, Manifest.read(folder))
    if artifact.manifest.identity != parent.identity:
        return (
            f"{parent.path}  {parent.kind} {parent.identity[:12]}: another artifact is there now",
            [],
        )
    draw = partial(_ancestors, line=_longer(line, artifact))
    return artifact.label, list(_branches(artifact.manifest.parents, draw))


def _branches(children: Iterable[T], draw: Callable[[T], tuple[str, list[str]]]) -> Iterator[str]:
    """The lines below a node."""
    drawn = [draw(child) for child in children]
    for number, (label, lines) in enumerate(drawn, 1):
        is_last = number == len(drawn)
        yield f"{'└─ ' if is_last else '├─ '}{label}"
        yield from (f"{'   ' if is_last else '│  '}{line}" for line in lines)
