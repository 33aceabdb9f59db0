"""A log of lines, each of which holds the digest of the one before.

Who alters, removes or moves a line breaks the chain from there on. Who cuts lines off at the end is
found out by the head, which is kept elsewhere; who writes a chain of their own by the signatures of
the checkpoints, which need the key of the log.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from medllm import console
from medllm.artifacts.digest import digest_text
from medllm.errors import ArtifactError, SetupError
from medllm.places import config_dir
from medllm.serve.audit.signing import Signer

FIRST = "0" * 64
"""What the first line of all has for the digest of the one before."""
CHECKPOINT_LINES = 1000
"""A line is signed at the latest when so many have followed the last signed one."""
KEPT_DAYS = 184
"""Six months, as the EU AI Act has logs kept at the least (article 26, 6)."""
AUDIT = "audit"
"""The folder of logs in the user's settings, and in it `HEADS`."""
HEADS = "heads"
Line = Mapping[str, Any]


def digest_line(line: Line) -> str:
    """The digest of a line: SHA-256 over all of it but the digest itself, keys in order."""
    content = {key: value for key, value in line.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log: its number and its digest."""

    number: int
    digest: str

    def write(self, file: IO[bytes]) -> None:
        """Over the last head, at once: both have the same length."""
        os.pwrite(file.fileno(), f"{self.number:020d} {self.digest}\n".encode(), 0)


def read_head(path: Path) -> Head | None:
    """The head that was kept, or none where there is no such file.

    Raises:
        ValueError: it is no head.
    """
    content = path.read_text(encoding="ascii") if path.is_file() else ""
    if not content:
        return None
    number, digest = content.split()
    return Head(int(number), digest)


class Chain:
    """A log in a folder of day files, open for one writer.

    `append` is for one thread; `sync` returns when the lines appended so far are on the disk.
    """

    def __init__(self, folder: Path, head: Path, signer: Signer) -> None:
        """Open the log, or begin it.

        What a killed writer left of a line is cut off, and the next line tells how much it was.

        Raises:
            SetupError: another server writes this log, or it cannot be written.
        """
        self._folder, self._signer = folder, signer
        self._file: IO[bytes] | None = None
        self._day = ""
        self._unsigned = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            head.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._head = os.fdopen(os.open(head, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0)
            (folder / "public.pem").write_bytes(signer.public_pem)
            known = read_head(head)
            self._last, torn = _resume(folder)
        except BlockingIOError:
            message = f"another server writes the audit log in {folder}"
            raise SetupError(
                message, "give each server a log: serve.audit names a folder"
            ) from None
        except OSError as problem:
            message = f"the audit log in {folder} cannot be written: {problem.strerror}"
            raise SetupError(message, "name a folder of yours as serve.audit") from problem
        if torn:
            self.append("recovered", {"torn_bytes": torn})
        if known and known.number > self._last.number:
            console.notice(
                f"the audit log in {folder} lacks lines that were there: see its last one"
            )
            self.append("gap", {"lines_by_head": known.number, "lines_found": self._last.number})

    @property
    def last(self) -> Head:
        """The last line."""
        return self._last

    def append(self, event: str, told: Mapping[str, Any]) -> Head:
        """Add a line; it is on the disk after the next `sync`."""
        now = datetime.now(UTC)
        file = self._file_of(now.date().isoformat())
        line: dict[str, Any] = {
            "number": self._last.number + 1,
            "time": now.isoformat(timespec="milliseconds"),
            "event": event,
            **told,
            "prev": self._last.digest,
        }
        if self._unsigned >= CHECKPOINT_LINES or event in {"start", "stop"}:
            line["signature"] = self._signer.sign(f"{line['number']} {line['prev']}".encode())
            self._unsigned = 0
        self._unsigned += 1
        line["hash"] = digest_line(line)
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._last = Head(line["number"], line["hash"])
        self._last.write(self._head)
        return self._last

    def sync(self) -> None:
        """Return when all that was appended is on the disk."""
        if self._file:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another writer open it."""
        for file in (self._file, self._head):
            if file:
                file.close()
        os.close(self._lock)

    def _file_of(self, day: str) -> IO[bytes]:
        if day != self._day or not self._file:
            if self._file:
                self.sync()
                self._file.close()
            path = self._folder / f"{day}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file, self._day = os.fdopen(descriptor, "ab", 0), day
            self._remove_old(day)
        return self._file

    def _remove_old(self, day: str) -> None:
        """Files from before the time that they are kept; the next line tells which went."""
        oldest = (datetime.fromisoformat(day) - timedelta(days=KEPT_DAYS)).date().isoformat()
        old = [path for path in day_files(self._folder) if path.stem < oldest]
        for path in old:
            path.unlink()
        if old:
            self.append("expired", {"files": [path.name for path in old]})


def head_of(folder: Path, named: Path | None) -> Head | None:
    """The head of a log: of the file that is named, else what this machine keeps, if it does.

    Raises:
        ArtifactError: the file that is named is none, or is no head.
    """
    path = named or head_path(folder, config_dir() / AUDIT / HEADS)
    try:
        head = read_head(path)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path} is no head of a log", "name another with --head") from problem
    if named and not head:
        raise ArtifactError(f"{named}: no such head of a log", "check the path")
    return head


def head_path(folder: Path, heads: Path) -> Path:
    """Where the head of a log is kept, apart from the log."""
    return heads / f"{digest_text(str(folder.resolve()))[:16]}.head"


def day_files(folder: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    return sorted(folder.glob("????-??-??.jsonl"))


def _resume(folder: Path) -> tuple[Head, int]:
    """The last whole line, and the bytes of a torn one, which is cut off."""
    torn = 0
    for path in reversed(day_files(folder)):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            torn += len(content) - whole
            os.truncate(path, whole)
        if whole:
            line = json.loads(content[:whole].splitlines()[-1])
            return Head(line["number"], line["hash"]), torn
    return Head(0, FIRST), torn
