"""The named keys of callers: kept as digests, with a role, an end and limits of their own."""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from medllm.artifacts.manifest import write_json
from medllm.errors import ConfigError, did_you_mean
from medllm.places import config_dir

FILE = "keys.json"
LOCK = "keys.lock"
"""Held by whoever changes the keys beside it: so none of two that are added at once is lost."""
PREFIX = "medllm-"
"""What a key begins with, so that scanners for leaked keys find it."""
NAME = re.compile(r"(?i)[a-z0-9][a-z0-9._-]{0,63}")
TAKEN = ("key", "anyone")
"""What the callers without a named key are called."""
LIMITS = ("requests_per_minute", "tokens_per_day", "concurrent")
UNREADABLE = (OSError, ValueError, TypeError, LookupError, RecursionError, ConfigError)
"""What a file of keys that somebody edited may raise."""
Role = Literal["user", "admin"]
"""Who may ask, and who may also see what the server does and take the model offline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who may ask, by the name of the key; limits that are unset do not hold."""

    name: str
    role: Role = "user"
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Caller):
    """A caller's key, of which nothing is kept but the SHA-256 of its 256 random bits."""

    digest: str
    created: str
    expires: str | None = None
    """The last day on which it holds (UTC)."""

    def holds_on(self, day: date) -> bool:
        """Whether it has not expired."""
        return self.expires is None or day <= date.fromisoformat(self.expires)


class KeyRing:
    """The keys of a file, which is read anew when it has changed: a revoked key is refused at once.

    Raises, whenever the file is read:
        ConfigError: it cannot be read, or is no file of keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def find(self, secret: str) -> Caller | None:
        """The caller whose key this is, unless it has expired or was revoked."""
        key = self._read().get(digest_of(secret))
        return key if key and key.holds_on(today()) else None

    def all_keys(self) -> list[Key]:
        """All keys, in the order in which they were added."""
        return list(self._read().values())

    def add(self, caller: Caller, expires: str | None = None) -> str:
        """Add a key; returns its secret, which is kept nowhere.

        Raises:
            ConfigError: there is a key of this name, or the name or the day is none.
        """
        _check(caller.name, expires)
        with self._locked():
            keys = self.all_keys()
            if any(key.name == caller.name for key in keys):
                fix = f"choose another name, or first `medllm keys revoke {caller.name}`"
                raise ConfigError(f"there is a key '{caller.name}' already", fix)
            secret = PREFIX + secrets.token_urlsafe(32)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            given = {each.name: getattr(caller, each.name) for each in fields(Caller)}
            key = Key(**given, digest=digest_of(secret), created=made, expires=expires)
            self._write([*keys, key])
        return secret

    def revoke(self, name: str) -> None:
        """Remove a key; running servers refuse it from their next request on.

        Raises:
            ConfigError: there is none of this name.
        """
        with self._locked():
            keys = self.all_keys()
            kept = [key for key in keys if key.name != name]
            if len(kept) == len(keys):
                names = [key.name for key in keys]
                fix = f"{did_you_mean(name, names)}see `medllm keys list`"
                raise ConfigError(f"there is no key '{name}'", fix)
            self._write(kept)

    def _read(self) -> dict[str, Key]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return self._keys
        except OSError as problem:
            raise _unreadable(self.path, problem) from problem
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise _unreadable(self.path, OSError(errno.EINVAL, "no regular file"))
        if found.st_mode & stat.S_IWOTH:
            fix = f"see which keys are yours, then chmod 0600 {self.path}"
            raise ConfigError(f"{self.path} can be written by anybody: its keys prove nothing", fix)
        if seen != self._seen:
            self._keys, self._seen = _read_keys(self.path), seen
        return self._keys

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Meanwhile nobody else changes the keys."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path.parent / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(lock, "r+b"):
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, keys: Iterable[Key]) -> None:
        write_json(self.path, {"keys": [asdict(key) for key in keys]})


def own_keys() -> KeyRing:
    """The keys of this user on this machine."""
    return KeyRing(config_dir() / FILE)


def build_caller(
    name: str,
    role: str | None,
    requests_per_minute: int | None,
    tokens_per_day: int | None,
    concurrent: int | None,
) -> Caller:
    """A caller, checked.

    Raises:
        ConfigError: the role is none, or a limit is not above zero.
    """
    if role not in (None, "user", "admin"):
        raise ConfigError(f"no role: '{role}'", "choose user or admin")
    limits = dict(zip(LIMITS, (requests_per_minute, tokens_per_day, concurrent), strict=True))
    for what, limit in limits.items():
        if limit is not None and limit < 1:
            raise ConfigError(f"{what} must be above 0", "leave it out for no limit")
    return Caller(name=name, role="admin" if role == "admin" else "user", **limits)


def digest_of(secret: str) -> str:
    """What is kept of a key; it has 256 random bits, so no salt and no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def today() -> date:
    """The day, UTC."""
    return datetime.now(UTC).date()


def _read_keys(path: Path) -> dict[str, Key]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = [Key(**row) for row in rows]
        for key in keys:  # what is wrong is found here, not at a request
            key.holds_on(date.min)
            if not NAME.fullmatch(key.name):  # it stands in the audit log, and counts the limits
                raise ValueError("a name is none of a key")
            build_caller(key.name, key.role, *(_whole(key, limit) for limit in LIMITS))
        found = {key.digest: key for key in keys}
        if len(found) < len(keys) or len({key.name for key in keys}) < len(keys):
            raise ValueError("a name or a digest stands twice")
        return found
    except UNREADABLE as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: Exception) -> ConfigError:
    why, fix = str(problem), "mend it, or remove it and give out new keys"
    if isinstance(problem, OSError):
        why, fix = str(problem.strerror), "see that it is a file, and that this user may read it"
    return ConfigError(f"{path} cannot be read as a file of keys ({why})", fix)


def _whole(key: Key, limit: str) -> int | None:
    """A limit of a key; raises TypeError where it is no whole number."""
    value = getattr(key, limit)
    if value is not None and type(value) is not int:
        raise TypeError(f"{limit} is no whole number")
    return value


def _check(name: str, expires: str | None) -> None:
    if name in TAKEN:
        message = f"the audit log calls others '{name}': who holds the one key, or needs none"
        raise ConfigError(message, "choose another name")
    if not NAME.fullmatch(name):
        raise ConfigError(
            "a key's name is of letters, digits, dots, dashes and _", "choose another"
        )
    try:
        last = date.fromisoformat(expires) if expires else date.max
    except ValueError:
        raise ConfigError(f"no day: '{expires}'", "write it as 2027-12-31") from None
    if last < today():
        raise ConfigError(f"{expires} is past", "name a day that is to come")
