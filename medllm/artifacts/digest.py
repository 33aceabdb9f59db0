"""SHA-256 of files and folders, remembered by path, size, mtime and inode so that asking twice is free."""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from medllm.artifacts.places import cache_dir


def digest_file(path: Path, *, anew: bool = False) -> str:
    """The hex digest of a file; `anew` reads it even if it looks unchanged."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    with closing(_open_memory()) as memory, memory:
        if not anew:
            row = memory.execute(
                "SELECT sha256 FROM digests WHERE path=? AND size=? AND mtime=? AND inode=?", key
            ).fetchone()
            if row:
                return str(row[0])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        memory.execute("INSERT OR REPLACE INTO digests VALUES (?,?,?,?,?)", (*key, digest))
    return digest


def digest_files(folder: Path, files: Iterable[Path]) -> str:
    """One digest for many files: over their names relative to `folder` and their contents."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def digest_text(text: str) -> str:
    """The hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _open_memory() -> sqlite3.Connection:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    memory = sqlite3.connect(folder / "digests.sqlite3", timeout=30)
    memory.execute(
        "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INT, mtime INT, inode INT, sha256 TEXT)"
    )
    return memory
