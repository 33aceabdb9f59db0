"""Making an artifact: nothing half-written is taken for whole, and no file of the user is lost.

The work happens in `<output>.unfinished`, which becomes `<output>` by a rename once its manifest is
written. A second run with the same settings and parents returns the finished artifact at once, or
goes on with the unfinished one.
"""

import errno
import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from safetensors import SafetensorError

from medllm import console
from medllm.artifacts.card import CARD_KINDS, render_card
from medllm.artifacts.manifest import (
    NAME,
    BaseModelRef,
    Counts,
    DataTerm,
    Kind,
    Manifest,
    Parent,
    chat_template_digest,
    check_files,
    describe_environment,
    identify,
    is_volatile,
    list_files,
    now,
    without_credentials,
    write_atomically,
)
from medllm.config.base import VerbConfig, settings_of
from medllm.errors import ArtifactError, ConfigError, MedllmError, SetupError

REQUEST = "request.json"
LOCK = "lock"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Job:
    """What is to be made: everything that can be known before the work."""

    kind: Kind
    format: str
    command: str
    output: Path
    config: dict[str, Any]
    settings: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    data_terms: tuple[DataTerm, ...] = ()
    base_model: BaseModelRef | None = None
    seed: int = 0
    overwrite: bool = False

    @classmethod
    def of(cls, config: VerbConfig, kind: Kind, command: str, *, format: str, **known: Any) -> Self:
        """The job of a verb's configuration.

        Raises:
            ConfigError: it names no output.
        """
        if config.output is None:
            raise ConfigError(f"{command}: no output is named", "--output DIR")
        return cls(
            kind=kind,
            format=format,
            command=command,
            output=config.output.resolve() if config.output.is_symlink() else config.output,
            config=config.model_dump(mode="json", exclude={"overwrite"}),
            settings=without_credentials(settings_of(config)),
            seed=config.seed,
            overwrite=config.overwrite,
            **known,
        )

    @property
    def unfinished(self) -> Path:
        """The folder that the work happens in."""
        return self.output.with_name(self.output.name + ".unfinished")

    @property
    def request(self) -> dict[str, Any]:
        """What makes two jobs the same."""
        content = {
            "kind": self.kind,
            "settings": self.settings,
            "parents": [parent.identity for parent in self.parents],
        }
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain


@dataclass(frozen=True)
class Outcome:
    """What the work found out."""

    counts: Counts = field(default_factory=Counts)
    results: dict[str, Any] = field(default_factory=dict)
    device: str | None = None


def produce(job: Job, make: Callable[[Path], Outcome]) -> Manifest:
    """The manifest: of the finished artifact if nothing changed, else of a new `make(folder)`.

    Raises:
        ArtifactError: the output is not empty and not this artifact, or another process writes it.
        SetupError: the disk is full.
    """
    if finished := finished_manifest(job):
        console.notice(f"{job.command}: {job.output} is up to date")
        return finished
    check_output(job)
    with _disk_full_is_an_error(job), _locked(job) as folder, console.log_to(folder / "run.log"):
        outcome = make(folder)
        manifest = _write_manifest(job, folder, outcome)
    _publish(job)
    return manifest


def finished_manifest(job: Job) -> Manifest | None:
    """The manifest in the output, if that is what this job would make again."""
    if job.overwrite or not (job.output / NAME).is_file():
        return None
    manifest = Manifest.read(job.output)
    same = {
        "kind": manifest.kind,
        "settings": manifest.settings,
        "parents": [parent.identity for parent in manifest.parents],
    }
    if same != job.request:
        return None
    check_files(job.output, manifest)
    return manifest


def check_output(job: Job) -> None:
    """Raise ArtifactError unless the output is free, or may go with no file of the user in it."""
    if job.output.is_file():
        raise ArtifactError(f"{job.output} is a file", "choose another --output")
    if not job.output.is_dir() or not any(job.output.iterdir()):
        return
    if not (job.output / NAME).is_file():
        raise ArtifactError(
            f"{job.output} is not empty and was not made by medllm", "choose another --output"
        )
    if not job.overwrite:
        raise ArtifactError(
            f"{job.output} holds another {Manifest.read(job.output).kind}",
            "add --overwrite, or choose another --output",
        )
    if users := next(_users_files(job.output), None):
        raise ArtifactError(
            f"{job.output} holds a file that medllm did not write: {users}",
            "move it away, or choose another --output",
        )


def _users_files(folder: Path) -> Iterator[Path]:
    """The files of a folder that no manifest in it accounts for."""
    manifest = Manifest.read(folder) if (folder / NAME).is_file() else None
    known = {file.path for file in manifest.files} if manifest else set()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        ours = relative.as_posix() in known or (manifest is not None and is_volatile(relative))
        if path.is_file() and not ours:
            yield relative


@contextmanager
def _locked(job: Job) -> Iterator[Path]:
    """The unfinished folder, for this process alone; emptied unless it belongs to the same job."""
    folder = job.unfinished
    with _open_lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"{folder} is being written by another medllm",
                "wait for it, or choose another --output",
            ) from None
        request = folder / REQUEST
        if not request.is_file() or _read_request(request) != job.request:
            _empty(folder)
            write_atomically(request, json.dumps(job.request))
        else:
            console.notice(f"{job.command}: going on with {folder}")
        try:
            yield folder
        except MedllmError:
            if {path.name for path in folder.iterdir()} <= {LOCK, REQUEST, "run.log"}:
                shutil.rmtree(folder)  # nothing was made, so there is nothing to go on with
            raise


def _open_lock(folder: Path) -> TextIO:
    ours = any((folder / name).is_file() for name in (LOCK, REQUEST, NAME))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise ArtifactError(f"{folder} was not made by medllm", "choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (folder / LOCK).open("w")
    except OSError as problem:
        if problem.errno in DISK_FULL:
            raise
        raise ArtifactError(
            f"{folder} cannot be written: {problem.strerror}", "choose another --output"
        ) from problem


def _read_request(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_manifest(job: Job, folder: Path, outcome: Outcome) -> Manifest:
    files = tuple(file for file in list_files(folder) if file.path not in {REQUEST, LOCK})
    manifest = Manifest(
        kind=job.kind,
        format=job.format,
        identity=identify(job.kind, job.settings, job.parents, files),
        created=now(),
        command=job.command,
        config=without_credentials(job.config),
        settings=job.settings,
        base_model=job.base_model,
        chat_template_sha256=chat_template_digest(folder),
        parents=job.parents,
        files=files,
        data_terms=job.data_terms,
        counts=outcome.counts,
        results=outcome.results,
        environment=describe_environment(job.seed, outcome.device),
    )
    if manifest.kind in CARD_KINDS:
        write_atomically(folder / "README.md", render_card(manifest))
    manifest.write(folder)
    (folder / REQUEST).unlink()
    (folder / LOCK).unlink()  # last: while files are hashed, nobody else may take the folder over
    return manifest


def _publish(job: Job) -> None:
    """Put the finished folder in its place; what was there goes, unless the user put it there."""
    replaced = None
    if job.output.is_dir() and any(job.output.iterdir()):
        name = f"{job.output.name}.replaced-"
        replaced = Path(tempfile.mkdtemp(prefix=name, dir=job.output.parent))
        job.output.rename(replaced)
    job.unfinished.replace(job.output)
    if replaced and any(_users_files(replaced)):
        console.notice(f"{job.command}: {replaced} keeps files that appeared in the output")
    elif replaced:
        shutil.rmtree(replaced)


@contextmanager
def _disk_full_is_an_error(job: Job) -> Iterator[None]:
    fix = f"free some space, then run the same command again: it goes on from {job.unfinished}"
    try:
        yield
    # torch and safetensors wrap the same errno
    except (OSError, RuntimeError, SafetensorError) as problem:
        full = isinstance(problem, OSError) and problem.errno in DISK_FULL
        if not full and "No space left on device" not in str(problem):
            raise
        raise SetupError(f"no space left on the disk of {job.output.parent}", fix) from problem
