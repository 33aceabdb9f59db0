"""Making an artifact so that nothing half-written is ever taken for whole, and nothing of the user's is lost.

The work happens in `<output>.unfinished`, which becomes `<output>` by a rename once its manifest is written. A second
run with the same settings and parents returns the finished artifact at once, or goes on with the unfinished one.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

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
from medllm.errors import ArtifactError, ConfigError, SetupError

REQUEST = "request.json"
LOCK = "lock"


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
    def of(cls, config: VerbConfig, kind: Kind, command: str, *, format: str, **known: Any) -> Self:  # noqa: A002
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
            output=config.output,
            config=config.model_dump(mode="json", exclude={"overwrite"}),
            settings=settings_of(config),
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
    """The artifact's manifest: the finished one if nothing changed, else that of a new run of `make(folder)`.

    Raises:
        ArtifactError: the output is not empty and not this artifact, or another process is writing it.
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
    """Raise ArtifactError unless the output is free, or may be overwritten without losing a file of the user's."""
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
    known = {file.path for file in Manifest.read(job.output).files}
    for path in sorted(job.output.rglob("*")):
        relative = path.relative_to(job.output)
        if path.is_file() and relative.as_posix() not in known and not is_volatile(relative):
            raise ArtifactError(
                f"{job.output} holds a file that medllm did not write: {relative}",
                "move it away, or choose another --output",
            )


@contextmanager
def _locked(job: Job) -> Iterator[Path]:
    """The unfinished folder, for this process alone; what is in it is kept only if it belongs to the same job."""
    folder = job.unfinished
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / LOCK).open("w") as lock:
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
        yield folder


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
    (folder / REQUEST).unlink()
    (folder / LOCK).unlink()
    files = list_files(folder)
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
    return manifest


def _publish(job: Job) -> None:
    replaced = job.output.with_name(job.output.name + ".replaced")
    if job.output.is_dir() and any(job.output.iterdir()):
        job.output.rename(replaced)
    os.replace(job.unfinished, job.output)  # noqa: PTH105 - Path.replace cannot take an empty folder's place everywhere
    if replaced.is_dir():
        shutil.rmtree(replaced)


@contextmanager
def _disk_full_is_an_error(job: Job) -> Iterator[None]:
    fix = f"free some space, then run the same command again: it goes on from {job.unfinished}"
    try:
        yield
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as problem:  # torch and safetensors wrap the same errno
        full = isinstance(problem, OSError) and problem.errno in {errno.ENOSPC, errno.EDQUOT}
        if not full and "No space left on device" not in str(problem):
            raise
        raise SetupError(f"no space left on the disk of {job.output.parent}", fix) from problem
