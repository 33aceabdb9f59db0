"""Inputs of a verb: what they are, whether they are whole, and the terms they carry."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_file, digest_files
from medllm.artifacts.gguf_files import gguf_parts
from medllm.artifacts.manifest import NAME, DataTerm, Manifest, Parent, check_files
from medllm.config.base import is_there
from medllm.errors import ArtifactError

FOREIGN = "foreign"
OUTPUT_KINDS = {"prepare": "dataset", "calibrate": "calibration"}
"""What the verbs make whose folders others read files from."""
OWN_KINDS = {"evaluation", "generation"}
"""What no other tool makes."""

_announced: set[Path] = set()  # of a foreign input it is said once what it is


@dataclass(frozen=True)
class Input:
    """An input of a verb: its place, its manifest if medllm made it, and what follows from it."""

    path: Path
    manifest: Manifest | None
    parent: Parent
    data_terms: tuple[DataTerm, ...] = ()


def open_input(path: Path, kinds: Collection[str], role: str) -> Input:
    """The input at `path`, checked to be complete, unaltered and of one of `kinds`.

    A folder or file without a manifest is foreign: digested, its terms unknown, said once. What no
    other tool makes is refused without one, and nothing of it is read.

    Raises:
        ArtifactError: missing, unfinished, altered, of another kind, or nobody may read it.
    """
    with readable(path, role):
        return _open(path, kinds, role)


@contextmanager
def readable(path: Path, role: str) -> Iterator[None]:
    """Meanwhile an OSError is an ArtifactError: a path that the file system refuses to read."""
    try:
        yield
    except OSError as problem:
        where = problem.filename if isinstance(problem.filename, str) else path
        message = f"{role}: {where} cannot be read: {problem.strerror or problem}"
        raise ArtifactError(message, "check the path and its permissions") from problem


def _open(path: Path, kinds: Collection[str], role: str) -> Input:
    is_here = is_there(path)
    folder = path if is_here and path.is_dir() else path.parent
    unfinished = folder.name.endswith(".unfinished") and is_there(folder / "request.json")
    if unfinished or (not is_here and is_there(path.with_name(f"{path.name}.unfinished"))):
        fix = "run the command that makes it again; it resumes where it stopped"
        raise ArtifactError(f"{path} is unfinished", fix)
    if not is_here:
        fix = "check the path, or make it first"
        raise ArtifactError(f"{role}: no such file or folder: {str(path):.300}", fix)
    if not (folder / NAME).is_file():
        if OWN_KINDS.issuperset(kinds):
            raise ArtifactError(f"{role}: {path} holds no result of medllm", "name one that does")
        return _foreign(path, role)
    manifest = Manifest.read(folder)
    if manifest.kind not in kinds:
        expected = _with_article(" or ".join(sorted(kinds)))
        found = _with_article(manifest.kind)
        raise ArtifactError(f"{role}: {path} is {found}, not {expected}", f"name {expected}")
    check_files(folder, manifest)
    return Input(path, manifest, manifest.as_parent(folder), manifest.data_terms)


def open_output(folder: Path, command: str, file: str, role: str) -> Input:
    """What `medllm prepare` or `medllm calibrate` wrote, or a foreign folder with the same file.

    Raises:
        ArtifactError: as `open_input`; or `file` is not in it.
    """
    found = open_input(folder, (OUTPUT_KINDS[command],), role)
    if not (folder / file).is_file():
        fix = f"name a folder that `medllm {command}` wrote"
        if command == "prepare" and folder.is_file():
            fix = f"make one of it: `medllm prepare --dataset {folder} --output DIR`, then name DIR"
        raise ArtifactError(f"{folder}: has no {file}", fix)
    return found


def _with_article(kind: str) -> str:
    named = kind.replace("quantized", "quantized model")
    return f"an {named}" if named[0] in "aeiou" else f"a {named}"


def _foreign(path: Path, role: str) -> Input:
    parts = gguf_parts(path)
    if len(parts) > 1:
        identity = digest_files(path.parent, parts)
    elif path.is_file():
        identity = digest_file(path)
    else:
        files = (file for file in path.rglob("*") if file.is_file())
        identity = digest_files(path, (file for file in files if not _is_hidden(file, path)))
    if path not in _announced:
        _announced.add(path)
        console.notice(f"{role}: {path} was not made by medllm; its data terms are not known")
    return Input(path, None, Parent(kind=FOREIGN, path=str(path), identity=identity))


def _is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file is one of a tool's own, as those in `.git/` and the hub's `.cache/`."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
