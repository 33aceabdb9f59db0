"""`medllm.json`: what an artifact is, what it was made from, and under which terms.

Only this module writes that file.
"""

import importlib.metadata
import json
import math
import os
import platform
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from medllm import __version__
from medllm.artifacts.digest import digest_file, digest_text
from medllm.config.base import Record, is_there
from medllm.errors import ArtifactError

NAME = "medllm.json"
SCHEMA = 1
MOST_BYTES = 256 * 2**20
"""Larger than any manifest: a dataset of a million images has one of 150 MB."""
PLOTS = "plots"
"""The folder of a report's plots as PNG files."""
VOLATILE = frozenset(
    {"run.log", "README.md", "report.html", "quality.html", PLOTS, "course.json", "logs", NAME,
     "search.json", "search.sqlite3", "best.yaml", "analysis.json", "gate.json", "stages.json"}
)  # fmt: skip
"""Not digested: logs and a search hold times, its best recipe places; a loss curve has other points
where a training was interrupted, though the weights are the same; `verify` renders the card from
the manifest again, and a report's plots look different with another version of matplotlib; what an
evaluation is compared with or held against is no part of it, nor the memory that a stage took."""

BUILT_IN = "medllm/tiny"
"""What the tiny model is called that medllm builds itself."""
IMAGES = "images"
"""The folder of a prepared dataset that links to where its sources keep their images."""
CARD_KINDS = frozenset({"adapter", "model", "quantized"})
"""The kinds that have a model card."""
PACKAGES = ("torch", "transformers", "trl", "peft", "gptqmodel", "llama-cpp-python", "bitsandbytes",
            "llmcompressor", "compressed-tensors")  # fmt: skip
"""Those whose versions a manifest names: they decide what an artifact is."""

Kind = Literal[
    "dataset", "calibration", "adapter", "model", "quantized", "evaluation", "generation"
]
Access = Literal["open", "non-commercial", "credentialed", "private"]
STRICTNESS: tuple[Access, ...] = ("open", "non-commercial", "credentialed", "private")


class Parent(Record):
    """Something an artifact was made from; `identity` names it, `path` only says where it was."""

    kind: str
    path: str
    identity: str


class FileEntry(Record):
    """One file of an artifact."""

    path: str
    bytes: int
    sha256: str


class DataTerm(Record):
    """Under which terms a dataset was used."""

    dataset: str
    licence: str
    access: Access
    agreement: str | None = None
    hub: str | None = None
    """Its name on the hub, where it is known to be there."""
    language: tuple[str, ...] = ()
    """ISO 639 codes of its languages, where they are known."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_known(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As written before there were such names: a seal is over what is written."""
        written: dict[str, Any] = write(self)
        return {key: value for key, value in written.items() if key not in FOR_CARDS or value}


FOR_CARDS = {"hub", "language"}
"""What a term tells a card alone; no identity depends on it."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Source(Protocol):
    """What an artifact may be made from."""

    @property
    def parent(self) -> Parent:
        """It as the parent of what is made from it."""

    @property
    def data_terms(self) -> tuple[DataTerm, ...]:
        """The terms that follow everything made from it."""


class BaseModelRef(Record):
    """The foundation model below an artifact."""

    id: str
    revision: str | None = None


class Counts(Record):
    """How many examples are in, and how many were rejected for which reason."""

    examples: int | None = None
    rejected: dict[str, int] = {}


class Manifest(Record):
    """The content of `medllm.json`."""

    schema_: int = Field(SCHEMA, alias="schema")
    kind: Kind
    format: str
    identity: str
    created: str = Field(default_factory=_now)
    medllm_version: str = __version__
    command: str
    config: dict[str, Any]
    settings: dict[str, Any]
    base_model: BaseModelRef | None = None
    chat_template_sha256: str | None = None
    parents: tuple[Parent, ...] = ()
    files: tuple[FileEntry, ...] = ()
    data_terms: tuple[DataTerm, ...] = ()
    counts: Counts = Counts()
    results: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    seal: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of an artifact's folder.

        Raises:
            ArtifactError: there is none, or it is not a manifest.
        """
        path = folder / NAME
        fix = "restore the file from its source, or make the artifact again in another folder"
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
                raise ValueError(f"no file of at most {MOST_BYTES} bytes")
            manifest = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            fix = "name a folder that a finished medllm command wrote"
            raise ArtifactError(f"{folder}: has no {NAME}", fix) from None
        except OSError as problem:
            message = f"{path}: cannot be read: {problem.strerror}"
            raise ArtifactError(message, "check the permissions of the file") from None
        except ValueError:
            raise ArtifactError(f"{path}: not a valid manifest", fix) from None
        if manifest.schema_ != SCHEMA:
            message = f"{path}: its schema is {manifest.schema_}, and this medllm reads {SCHEMA}"
            raise ArtifactError(message, "use the medllm that wrote it, or a newer one")
        return manifest

    def write(self, folder: Path) -> None:
        """Write `medllm.json` atomically; its existence means that the artifact is complete."""
        write_atomically(folder / NAME, self.model_dump_json(by_alias=True, indent=1) + "\n")

    def as_parent(self, folder: Path) -> Parent:
        """This artifact as the parent of another."""
        return Parent(kind=self.kind, path=str(folder), identity=self.identity)

    @property
    def digest(self) -> str:
        """What `seal` must be: over all that is recorded but the seal itself."""
        return self._digest_of()

    def _digest_of(self, *names: str) -> str:
        """Over some fields; over all but the seal where none is named."""
        text = self.model_dump_json(by_alias=True, include={*names} or None, exclude={"seal"})
        return digest_text(json.dumps(json.loads(text), sort_keys=True))

    def problems(self) -> list[str]:
        """What is wrong where the record is not as its maker wrote it, one line each."""
        found = []
        if identify(self.kind, self.settings, self.parents, self.files) != self.identity:
            found.append(f"{NAME}: the identity does not fit the content: it was altered")
        if self.identity in {parent.identity for parent in self.parents}:
            found.append(f"{NAME}: it names itself as what it was made from")
        early = self._digest_of("results", "counts", "data_terms")  # the seal of medllm 0.1
        if self.seal not in {self.digest, early}:
            found.append(f"{NAME}: does not fit its seal: it was altered")
        return found

    @property
    def access(self) -> Access | None:
        """The strictest access class of the data below this artifact; None where none is known."""
        return strictest(self.data_terms)


def identify(
    kind: str, settings: Mapping[str, Any], parents: Iterable[Parent], files: Iterable[FileEntry]
) -> str:
    """A digest of kind, schema, settings, parents and contents; never of time, machine or path."""
    content = {
        "schema": SCHEMA,
        "kind": kind,
        "settings": settings,
        "parents": [parent.identity for parent in parents],
        "files": [(file.path, file.sha256) for file in files],
    }
    return digest_text(json.dumps(content, sort_keys=True))


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """The files of an artifact with their digests, without the volatile ones."""
    return tuple(
        FileEntry(
            path=name.as_posix(),
            bytes=(folder / name).stat().st_size,
            sha256=digest_file(folder / name),
        )
        for name in _names(folder)
        if not is_volatile(name) and not _links_images(folder / name)
    )


def unlisted_files(folder: Path, manifest: Manifest | None) -> Iterator[Path]:
    """The files of a folder that its manifest does not account for, relative to it."""
    known = {file.path for file in manifest.files} if manifest else set()
    for name in _names(folder):
        if name.as_posix() in known or (manifest and _is_written_beside(name, manifest)):
            continue
        if not _links_images(folder / name):
            yield name


def _is_written_beside(name: Path, manifest: Manifest) -> bool:
    """Whether a file that is in no manifest is one of those that medllm writes beside it."""
    if name == Path("README.md"):
        return manifest.kind in CARD_KINDS
    if name.parts[0] == "logs":  # those of TensorBoard
        return name.name.startswith("events")
    return is_volatile(name)


def _names(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return [path.relative_to(folder) for path in sorted(files)]


def _links_images(path: Path) -> bool:
    """Whether this is a link to the folder of a dataset's images, whose place is no content."""
    return path.parent.name == IMAGES and path.is_symlink() and not path.is_file()


def is_volatile(path: Path) -> bool:
    """Whether a file of an artifact is left out of its identity."""
    return path.parts[0] in VOLATILE


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the files are those of the manifest, and it is unaltered."""
    if problems := manifest.problems() + file_problems(folder, manifest):
        fix = "make it again with --overwrite, or restore the file from its source"
        raise ArtifactError(f"{folder}: {problems[0]}", fix)


def file_problems(folder: Path, manifest: Manifest, *, anew: bool = False) -> list[str]:
    """What is wrong with the files of an artifact, one line each."""
    problems = []
    for file in manifest.files:
        path = folder / file.path
        if not (is_there(path) and path.is_file()):
            problems.append(f"{file.path:.200} is missing")
        elif (size := path.stat().st_size) != file.bytes:
            problems.append(f"{file.path} has {size} bytes instead of {file.bytes}")
        elif (digest := _digest_if_readable(path, anew)) != file.sha256:
            problems.append(f"{file.path} {'was altered' if digest else 'cannot be read'}")
    return problems


def _digest_if_readable(path: Path, anew: bool) -> str | None:
    try:
        return digest_file(path, anew=anew)
    except PermissionError:
        return None


def strictest(terms: Iterable[DataTerm]) -> Access | None:
    """The strictest access class among some terms."""
    return max((term.access for term in terms), key=STRICTNESS.index, default=None)


def join_terms(*groups: Iterable[DataTerm]) -> tuple[DataTerm, ...]:
    """All terms once, in order of dataset; of the same terms those that tell a card most."""
    terms = sorted((term for group in groups for term in group), key=lambda one: len(str(one)))
    fullest = {one.model_copy(update={"hub": None, "language": ()}): one for one in terms}
    return tuple(sorted(fullest.values(), key=str))


def describe_environment(seed: int, device: str | None = None) -> dict[str, Any]:
    """The versions that made an artifact; for the reader, never part of an identity."""
    return {"python": platform.python_version(), **_versions(), "device": device, "seed": seed}


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def without_credentials(value: Any) -> Any:
    """A configuration that can be written down: no passwords in URLs."""
    if isinstance(value, dict):
        return {key: without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_credentials(item) for item in value]
    return re.sub(r"(?<=://)[^/@#\s]+@", "", value) if isinstance(value, str) else value


def without_nan(value: Any, name: str = "results") -> tuple[Any, list[str]]:
    """Plain data with None for each number that is not finite, and the names of those."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, [name]
    if not isinstance(value, Mapping | list | tuple):
        return value, []
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    found = [without_nan(item, f"{name}.{key}") for key, item in pairs]
    items, lost = [item for item, _ in found], [each for _, names in found for each in names]
    return (dict(zip(value, items, strict=True)) if isinstance(value, Mapping) else items), lost


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, as a whole and for its owner only; NaN and infinity as null.

    A file that holds the same already is left as it is.
    """
    text = json.dumps(without_nan(value)[0], indent=1, allow_nan=False) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or none; readable by its owner only."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
