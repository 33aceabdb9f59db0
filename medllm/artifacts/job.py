"""Making an artifact: nothing half-written is taken for whole, and no file of the user is lost.

The work happens in `<output>.unfinished`, which becomes `<output>` by a rename once its manifest is
written. A second run with the same settings and parents returns the finished artifact at once, or
resumes the unfinished one.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from medllm import __version__, console
from medllm.artifacts.card import render_card
from medllm.artifacts.digest import digest_file
from medllm.artifacts.manifest import (
    CARD_KINDS,
    NAME,
    BaseModelRef,
    Counts,
    DataTerm,
    Kind,
    Manifest,
    Parent,
    Source,
    check_files,
    describe_environment,
    identify,
    join_terms,
    list_files,
    unlisted_files,
    without_credentials,
    without_nan,
    write_atomically,
)
from medllm.artifacts.unfinished import DISK_FULL, ELSEWHERE, LOCK, REQUEST, locked
from medllm.config.base import VerbConfig, inputs_of, settings_of
from medllm.errors import ArtifactError, ConfigError, MedllmError, SetupError
from medllm.ranks import count_processes

MOST_NAME_BYTES = 255 - len(".replaced-12345678")
"""The longest name of an output: file systems take 255 bytes, and an ending is put behind it."""


class WorkBegins(Exception):
    """In a dry run: all that is checked before the work was checked, and nothing refused."""


_is_dry: ContextVar[bool] = ContextVar("is_dry", default=False)


@contextmanager
def without_work() -> Iterator[None]:
    """Meanwhile a verb ends where its work, or a download, would begin: a dry run.

    Raises:
        MedllmError: what the verb refuses before.
    """
    token = _is_dry.set(True)
    try:
        with suppress(WorkBegins):
            yield
    finally:
        _is_dry.reset(token)


def begin_work() -> None:
    """Raise WorkBegins in a dry run; a verb calls it once all that is cheap is checked."""
    if _is_dry.get():
        raise WorkBegins


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
    sources: tuple[Path, ...] = ()
    """Files and folders that it reads."""

    @classmethod
    def of(cls, config: VerbConfig, kind: Kind, command: str, format: str, *inputs: Source) -> Self:
        """The job of a verb's configuration and inputs; the first model among them is its base.

        Raises:
            ConfigError: it names no output.
        """
        if config.output is None:
            raise ConfigError(f"{command}: no output is named", "--output DIR")
        return cls(
            kind=kind,
            format=format,
            command=command,
            output=_followed(config.output),
            config=without_credentials(config.model_dump(mode="json", exclude={"overwrite"})),
            settings=without_credentials(settings_of(config)),
            parents=tuple(source.parent for source in inputs),
            data_terms=join_terms(*(source.data_terms for source in inputs)),
            base_model=next((source.base for source in inputs if hasattr(source, "base")), None),
            seed=config.seed,
            overwrite=config.overwrite,
            sources=tuple(inputs_of(config)),
        )

    def deciding(self, **more: Any) -> Self:
        """The job with more that decides its result: what names in the configuration stand for."""
        return replace(self, settings=self.settings | without_credentials(more))

    @property
    def unfinished(self) -> Path:
        """The folder that the work happens in."""
        return self.output.with_name(self.output.name + ".unfinished")


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
        ConfigError: it was started in several processes.
        SetupError: the disk is full.
    """
    if count_processes() > 1:
        message = f"{job.command} runs in one process, not in {count_processes()}"
        raise ConfigError(message, f"run `medllm {job.command}` by itself, without a launcher")
    return produce_as_main(job, make)


def produce_as_main(job: Job, make: Callable[[Path], Outcome]) -> Manifest:
    """As `produce`, in the one of several processes that writes."""
    finished = finished_manifest(job)
    if not finished:
        check_output(job)
    begin_work()
    if finished:
        console.notice(f"{job.command}: {job.output} is up to date")
        return finished
    with _disk_full_is_an_error(job), locked(job.unfinished, _resume_key(job), job.command):
        check_output(job)  # another process may have finished meanwhile
        return _make(job, make)


def _make(job: Job, make: Callable[[Path], Outcome]) -> Manifest:
    """Do the work in the unfinished folder, and put it in its place."""
    folder = job.unfinished
    try:
        with console.log_to(folder / "run.log"):
            outcome = make(folder)
            manifest = _write_manifest(job, folder, outcome)
    except MedllmError:
        if {path.name for path in folder.iterdir()} <= {LOCK, REQUEST, "run.log"}:
            shutil.rmtree(folder)  # nothing was made, so there is nothing to resume
        raise
    _publish(job)
    return manifest


def finished_manifest(job: Job) -> Manifest | None:
    """The manifest in the output, if that is what this job would make again."""
    _resolved(job.output)
    if job.overwrite or not (job.output / NAME).is_file():
        return None
    manifest = Manifest.read(job.output)
    if _request(manifest) != _request(job):
        return None
    check_files(job.output, manifest)
    return manifest


def _request(made: Job | Manifest, **more: str) -> bytes:
    """What makes two jobs the same."""
    parents = [parent.identity for parent in made.parents]
    content = {"kind": made.kind, "settings": made.settings, "parents": parents}
    return json.dumps(content | more, sort_keys=True).encode()


def _resume_key(job: Job) -> bytes:
    """What must be the same for the work to resume: one release of medllm makes all of a result."""
    return _request(job, medllm=__version__)


def check_output(job: Job) -> None:
    """Raise ArtifactError unless the output is free, or may go with no file of the user in it."""
    _check_place(job)
    if job.output.exists() and not job.output.is_dir():
        raise ArtifactError(f"{job.output} is a file", ELSEWHERE)
    if not job.output.is_dir() or not any(job.output.iterdir()):
        return
    if not (job.output / NAME).is_file():
        raise ArtifactError(f"{job.output} is not empty and was not made by medllm", ELSEWHERE)
    if not job.overwrite:
        message = f"{job.output} holds another {Manifest.read(job.output).kind}"
        raise ArtifactError(message, f"add --overwrite, or {ELSEWHERE}")
    if users := next(_users_files(job.output), None):
        message = f"{job.output} holds a file that medllm did not write: {users}"
        raise ArtifactError(message, f"move it away, or {ELSEWHERE}")


def _check_place(job: Job) -> None:
    """Raise ArtifactError for a place that cannot be written, or that must not be replaced."""
    output, fix, real = job.output, ELSEWHERE, _resolved(job.output)
    if real == Path(os.environ.get("HOME", "/")) or real.is_mount():
        raise ArtifactError(f"{output} is a home folder or a whole disk", "name a folder in it")
    if Path.cwd().is_relative_to(real):
        raise ArtifactError(f"{output} is or holds the working folder", fix)
    for source in map(Path.resolve, job.sources):
        if real.is_relative_to(source):
            raise ArtifactError(f"{output} lies inside of what it is made from, {source}", fix)
        if source.is_relative_to(real):
            raise ArtifactError(f"{output} holds what it is made from, {source}", fix)


def _resolved(output: Path) -> Path:
    """Where an output really is.

    Raises:
        ArtifactError: it cannot be there.
    """
    if len(os.fsencode(output.name)) > MOST_NAME_BYTES:
        message = f"{output.name:.40}… is longer than {MOST_NAME_BYTES} bytes, too long for a name"
        raise ArtifactError(message, ELSEWHERE)
    try:
        output.stat()
    except OSError as problem:
        if problem.errno not in {errno.ENOENT, errno.ENOTDIR}:
            message = f"{str(output):.200} cannot be written: {problem.strerror}"
            raise ArtifactError(message, ELSEWHERE) from None
    return output.resolve()


def _followed(output: Path) -> Path:
    """Where a link leads, so that it stays; what leads nowhere is refused later."""
    try:
        return output.resolve() if output.is_symlink() else output
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        return output


def _users_files(folder: Path) -> Iterator[Path]:
    """The files of a folder that no manifest in it accounts for."""
    return unlisted_files(folder, Manifest.read(folder) if (folder / NAME).is_file() else None)


def _write_manifest(job: Job, folder: Path, outcome: Outcome) -> Manifest:
    files = tuple(file for file in list_files(folder) if file.path not in {REQUEST, LOCK})
    template = folder / "chat_template.jinja"
    results, lost = without_nan(outcome.results)
    if lost:
        console.notice(f"{job.command}: not a finite number, and so left empty: {', '.join(lost)}")
    shared = Manifest.model_fields.keys() & vars(job).keys()
    manifest = Manifest(
        **{name: getattr(job, name) for name in shared},
        identity=identify(job.kind, job.settings, job.parents, files),
        chat_template_sha256=digest_file(template) if template.is_file() else None,
        files=files,
        counts=outcome.counts,
        results=results,
        environment=describe_environment(job.seed, outcome.device),
    )
    manifest = manifest.model_copy(update={"seal": manifest.digest})
    if manifest.kind in CARD_KINDS:
        write_atomically(folder / "README.md", render_card(manifest))
    manifest.write(folder)
    (folder / REQUEST).unlink()
    return manifest


def _publish(job: Job) -> None:
    """Put the finished folder in its place; what was there goes, unless the user put it there."""
    replaced = None
    if job.output.is_dir() and any(job.output.iterdir()):
        name = f"{job.output.name}.replaced-"
        replaced = Path(tempfile.mkdtemp(prefix=name, dir=job.output.parent))
        job.output.rename(replaced)
    job.unfinished.replace(job.output)
    (job.output / LOCK).unlink()  # last: until it is in its place, nobody else may take it over
    if replaced and (not job.overwrite or any(_users_files(replaced))):
        console.notice(f"{job.command}: {replaced} keeps files that appeared in the output")
    elif replaced:
        shutil.rmtree(replaced)


@contextmanager
def _disk_full_is_an_error(job: Job) -> Iterator[None]:
    fix = f"free some space, then run the same command again: it resumes from {job.unfinished}"
    try:
        yield
    # torch and safetensors wrap the same errno
    except (OSError, RuntimeError, SafetensorError) as problem:
        full = isinstance(problem, OSError) and problem.errno in DISK_FULL
        if not full and "No space left on device" not in str(problem):
            raise
        raise SetupError(f"no space left on the disk of {job.output.parent}", fix) from problem
