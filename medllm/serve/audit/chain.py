"""A log of lines, each of which holds the digest of the one before.

Who alters, removes or moves a line breaks the chain from there on. Who cuts lines off at the end is
found out by the head, which is kept elsewhere; who writes a chain of their own by the signatures of
the checkpoints, which need the key of the log.
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
MOST_PAUSE_DAYS = 31
"""Where a log goes on after more days, the clock may be wrong: nothing is removed on that day."""
SIGNED = {"start", "stop"}
"""Events whose lines are signed in any case."""
Line = Mapping[str, Any]


def render_line(line: Line) -> bytes:
    """A line as it is written, without the end of the line."""
    return json.dumps(line, ensure_ascii=False).encode()


def digest_line(line: Line) -> str:
    """The digest of a line: SHA-256 over all of it but the digest itself, keys in order."""
    content = {key: value for key, value in line.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_line(content: bytes) -> dict[str, Any] | None:
    """A line of a log; None for what is none."""
    try:
        line = json.loads(content)
    except (ValueError, RecursionError):
        return None
    forms = {"number": int, "event": str, "prev": str, "hash": str}
    if not isinstance(line, dict) or not isinstance(line.get("signature", ""), str):
        return None
    return line if all(isinstance(line.get(key), form) for key, form in forms.items()) else None


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

    def __init__(
        self,
        folder: Path,
        head: Path,
        signer: Signer,
        kept_days: int = KEPT_DAYS,
        copy: Callable[[Line], object] | None = None,
    ) -> None:
        """Open the log, or begin it.

        What a killed writer left of a line is cut off, and the next line tells how much it was.
        `copy` is called with each line that is written.

        Raises:
            SetupError: another server writes this log, or it cannot be written.
        """
        self._folder, self._signer, self._kept_days = folder, signer, kept_days
        self._copy = copy
        self._file: IO[bytes] | None = None
        self._syncing = threading.Lock()  # the file changes at midnight, while one may be synced
        self._day = max((path.stem for path in day_files(folder)), default="")
        self._unsigned = CHECKPOINT_LINES  # the first line is signed, whatever it tells
        try:
            self._last, torn, known = self._open(head)
        except BlockingIOError:
            message = f"another server writes the audit log in {folder}"
            raise SetupError(
                message, "give each server a log: serve.audit names a folder"
            ) from None
        except OSError as problem:
            message = f"the audit log in {folder} cannot be written: {problem.strerror}"
            raise SetupError(message, "name a folder of yours as serve.audit") from problem
        except ValueError as problem:
            message = f"the audit log in {folder} cannot be continued: {problem}"
            fix = "keep it as it is, see what `medllm audit verify` says, and name another folder"
            raise SetupError(message, fix) from problem
        if self._day > datetime.now(UTC).date().isoformat():
            console.notice(f"the audit log in {folder} has lines of {self._day}: see to the clock")
        if torn:
            self.append("recovered", {"torn_bytes": torn})
        if known:
            self._compare(known)

    def _open(self, head: Path) -> tuple[Head, int, Head | None]:
        """Take the log; gives its last line, the bytes of a torn one, and the head that was kept.

        Raises:
            BlockingIOError: another writer has it.
            OSError: it cannot be written.
            ValueError: its head is none, or its last line.
        """
        for folder in (self._folder, head.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with ExitStack() as taken:
            lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            taken.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            descriptor = os.open(head, os.O_RDWR | os.O_CREAT, 0o600)
            self._head = taken.enter_context(os.fdopen(descriptor, "r+b", 0))
            (self._folder / "public.pem").write_bytes(self._signer.public_pem)
            known = read_head(head)
            last, torn = _resume(self._folder)
            self._taken = taken.pop_all()
        return last, torn, known

    @property
    def last(self) -> Head:
        """The last line."""
        return self._last

    def append(self, event: str, told: Mapping[str, Any]) -> Head:
        """Add a line; it is on the disk after the next `sync`."""
        now = datetime.now(UTC)
        # a clock that is set back must not put lines before those that are there
        file = self._file_of(max(now.date().isoformat(), self._day))
        line: dict[str, Any] = {
            "number": self._last.number + 1,
            "time": now.isoformat(timespec="milliseconds"),
            "event": event,
            **told,
            "prev": self._last.digest,
        }
        is_signed = self._unsigned >= CHECKPOINT_LINES or event in SIGNED
        if is_signed:
            line["signature"] = self._signer.sign(f"{line['number']} {line['prev']}".encode())
        line["hash"] = digest_line(line)
        write_whole(file, render_line(line) + b"\n")
        self._unsigned = 1 if is_signed else self._unsigned + 1
        self._last = Head(line["number"], line["hash"])
        if self._copy:
            self._copy(line)
        return self._last

    def sync(self) -> None:
        """Return when all that was appended is on the disk; the head tells of nothing else."""
        with self._syncing:
            reached = self._last
            if self._file:
                os.fsync(self._file.fileno())
                reached.write(self._head)

    def close(self) -> None:
        """Let another writer open it."""
        if self._file:
            self._file.close()
        self._taken.close()

    def _compare(self, known: Head) -> None:
        """Tell of what was done to the end of the log while no server wrote it."""
        told: dict[str, Any] = {"lines_by_head": known.number, "lines_found": self._last.number}
        if known.number > self._last.number:
            event, what = "gap", "lacks lines that were there"
        elif not _holds(self._folder, known):
            event, what, told = "altered", "was altered", {"line": known.number, **told}
            told["hash_by_head"] = known.digest
        else:
            return
        console.notice(f"the audit log in {self._folder} {what}: see its last one")
        self.append(event, told)

    def _file_of(self, day: str) -> IO[bytes]:
        if day != self._day or not self._file:
            before = self._day
            with self._syncing:
                if self._file:
                    os.fsync(self._file.fileno())
                    self._file.close()
                    self._file = None  # a disk that takes no new file now may take one later
                self._file, self._day = _open_day(self._folder, day), day
            self._remove_old(day, before or day)
        return self._file

    def _remove_old(self, day: str, before: str) -> None:
        """Files from before the time that they are kept, after a line that tells which go."""
        today = datetime.fromisoformat(day)
        oldest = (today - timedelta(days=self._kept_days)).date().isoformat()
        old = [path for path in day_files(self._folder) if path.stem < oldest]
        if not old:
            return
        if today - datetime.fromisoformat(before) > timedelta(days=MOST_PAUSE_DAYS):
            told = f"goes from {before} to {day}: old files are kept until the day after"
            console.notice(f"the audit log in {self._folder} {told}")
            return
        last = next(filter(None, map(_last_line, reversed(old))), None)
        told_last = {"last_line": last["number"]} if last else {}
        self.append("expired", {"files": [path.name for path in old], **told_last})
        self.sync()
        for path in old:
            path.unlink()


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
            line = _last_line(path)
            if not line:
                raise ValueError(f"the last line of {path.name} is none of a log")
            return Head(line["number"], line["hash"]), torn
    return Head(0, FIRST), torn


def _last_line(path: Path) -> dict[str, Any] | None:
    """The last line of a file; None where it has none, or what is none."""
    lines = path.read_bytes().splitlines()
    return read_line(lines[-1]) if lines else None


def _holds(folder: Path, head: Head) -> bool:
    """Whether the line that a head tells of stands in the log as it tells."""
    for path in reversed(day_files(folder)):
        with path.open("rb") as file:
            for line in filter(None, map(read_line, file)):
                if line["number"] == head.number:
                    return bool(line["hash"] == head.digest)
    return False


def _open_day(folder: Path, day: str) -> IO[bytes]:
    """The file of a day, to add to; that it is there survives a power cut."""
    path = folder / f"{day}.jsonl"
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0)
    names = os.open(folder, os.O_RDONLY)
    os.fsync(names)
    os.close(names)
    return file


def write_whole(file: IO[bytes], content: bytes) -> None:
    """Add a line or nothing: what a full disk took of it is taken back; raises OSError."""
    before = os.fstat(file.fileno()).st_size
    try:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file.fileno(), before)
        raise
