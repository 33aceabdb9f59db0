"""The folder `<output>.unfinished` that a job works in: whose it is, and for one process alone.

What lies in it is thrown away only where medllm wrote it. A folder that medllm did not begin is
refused; one that holds files of unknown origin beside ours is set aside.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from medllm import console
from medllm.artifacts.manifest import NAME, PLOTS, write_atomically
from medllm.errors import ArtifactError

REQUEST = "request.json"
LOCK = "lock"
MARK = b"medllm\n"
"""What our lock file holds; one of a user's holds something else."""
ELSEWHERE = "choose another --output, or another output_dir in the recipe"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WRITTEN = (
    NAME, REQUEST, LOCK, "run.log", "README.md", "report.html", PLOTS, "course.json",
    "best.yaml", "Modelfile", "*.partial", "train.*", "validation.*", "test.*", "steps.*",
    "quality.*", "search.*", "*.safetensors", "model*.gguf", "config.json", "*_config.json",
    "*.index.json", "tokenizer*", "chat_template.jinja", "calibration.*", "parts.jsonl",
    "contamination.jsonl", "holdout_*.jsonl", "statistics.json", "generations.jsonl", "answer.json",
    "stages.json", "stage-*.jsonl", "results.csv", "results.json", "summary.json",
    "shards", "rejected", "images", "checkpoints", "trials", "logs", "*tokens*.json", "vocab.json",
    "merges.txt", "training_args.bin", "quant_log.csv", "recipe.yaml",
)  # fmt: skip
"""What verbs write at the top of their folder; anything else there may be the user's."""


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """Meanwhile a folder may be made; it and those above it go again where they stay empty."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # what holds something, or is gone already
            for each in made:
                each.rmdir()


@contextmanager
def locked(folder: Path, request: bytes, command: str) -> Iterator[None]:
    """Hold the folder for this process alone, until after it was renamed.

    It is empty, unless work on the same request was begun in it: then that is resumed.

    Raises:
        ArtifactError: medllm did not begin it, another process has it, or it cannot be written.
    """
    while True:
        with leaving_no_empty(folder.parent), _open_lock(folder) as lock:
            _take(lock, folder)
            if not _is_at(folder / LOCK, lock):
                continue  # who held it has finished, and the folder is in its place by now
            if _asks_for(folder, request):
                console.notice(f"{command}: resuming from {folder}")
            elif not _is_all_ours(folder):
                _set_aside(folder, command)
                continue
            else:
                _empty(folder)
                write_atomically(folder / REQUEST, request.decode())
            yield
            return


def _open_lock(folder: Path) -> BinaryIO:
    if folder.is_symlink():
        message = f"{folder} is a link, and what it leads to is not medllm's to write"
        raise ArtifactError(message, f"remove the link, or {ELSEWHERE}")
    try:
        if folder.is_dir() and any(folder.iterdir()) and not _was_begun(folder):
            raise ArtifactError(f"{folder} was not made by medllm", ELSEWHERE)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(folder / LOCK, flags, 0o600), "r+b", buffering=0)
    except OSError as problem:
        if problem.errno in DISK_FULL:
            raise
        raise ArtifactError(f"{folder} cannot be written: {problem.strerror}", ELSEWHERE) from None


def _was_begun(folder: Path) -> bool:
    """Whether medllm began it; a lock file alone may be empty, from one that was killed then."""
    lock = folder / LOCK
    if lock.is_symlink() or (lock.exists() and not lock.is_file()):
        return False
    if lock.exists() and (held := lock.read_bytes()):
        return held == MARK
    return _asks_for(folder, None) or {path.name for path in folder.iterdir()} == {LOCK}


def _asks_for(folder: Path, request: bytes | None) -> bool:
    """Whether the work begun in it is that of a request; of any, where none is given."""
    path = folder / REQUEST
    if path.is_symlink() or not path.is_file():
        return False
    written = path.read_bytes()
    if request is not None:
        return written == request
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= {"kind", "settings", "parents"}


def _take(lock: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"{folder} is being written by another medllm"
        raise ArtifactError(message, f"wait for it, or {ELSEWHERE}") from None
    if not lock.read():
        lock.write(MARK)


def _is_at(path: Path, lock: BinaryIO) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))


def _is_all_ours(folder: Path) -> bool:
    return all(
        any(fnmatchcase(path.name, pattern) for pattern in WRITTEN) for path in folder.iterdir()
    )


def _set_aside(folder: Path, command: str) -> None:
    kept = Path(tempfile.mkdtemp(prefix=f"{folder.stem}.replaced-", dir=folder.parent))
    (folder / LOCK).unlink()
    folder.rename(kept)
    console.notice(f"{command}: {kept} keeps files that medllm may not have written")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
