"""SHA-256 of files and folders, remembered for as long as a file looks unchanged.

A file looks unchanged while its path, size, mtime, ctime and inode do. The ctime is what no program
can set back: who alters a file and restores its mtime is noticed by it.
"""

import atexit
import errno
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from medllm import console
from medllm.places import cache_dir

TABLE = (
    "CREATE TABLE IF NOT EXISTS files"
    " (path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, inode INT, sha256 TEXT)"
)
RECALL = "SELECT sha256 FROM files WHERE path=? AND size=? AND mtime=? AND ctime=? AND inode=?"
REMEMBER = "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?)"


def digest_file(path: Path, *, anew: bool = False) -> str:
    """The hex digest of a file; `anew` reads it even if it looks unchanged.

    Raises:
        OSError: there is none that can be read; a pipe or a device never ends.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    times = (found.st_mtime_ns, found.st_ctime_ns)
    key = (os.fsencode(path.resolve()), found.st_size, *times, found.st_ino)
    known = None if anew else _ask_memory(RECALL, key)
    if known:
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _ask_memory(REMEMBER, (*key, digest))
    return digest


def digest_files(folder: Path, files: Iterable[Path]) -> str:
    """One digest for many files: over their names relative to `folder` and their contents."""
    total = hashlib.sha256()
    for path in sorted(files):
        name = os.fsencode(path.relative_to(folder).as_posix())  # not always UTF-8
        total.update(name + f"\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def digest_text(text: str) -> str:
    """The hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _ask_memory(statement: str, values: tuple[str | bytes | int, ...]) -> str | None:
    """The first value of what a statement finds; nothing where the memory cannot be used."""
    folder = cache_dir()
    try:
        row = _open_memory(folder, os.getpid()).execute(statement, values).fetchone()
    except (sqlite3.Error, OSError) as problem:
        _announce_trouble(folder, str(problem))
        return None
    return str(row[0]) if row else None


@cache
def _open_memory(folder: Path, process: int) -> sqlite3.Connection:
    """One connection for all files of a process: opening one takes longer than a small file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "digests.sqlite3"
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    if path.stat().st_uid != os.geteuid():
        raise PermissionError(f"{path.name} belongs to somebody else")
    path.chmod(0o600)  # whoever can write it can say that an altered file is unaltered
    memory = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    atexit.register(memory.close)
    memory.execute("PRAGMA synchronous=OFF")  # what a crash of the machine loses is digested anew
    memory.execute(TABLE)
    return memory


@cache
def _announce_trouble(folder: Path, problem: str) -> None:
    console.notice(f"digests cannot be remembered in {folder}, so files are read anew: {problem}")
