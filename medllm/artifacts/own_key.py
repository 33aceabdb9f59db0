"""The key of this user on this machine, for digests that nobody else can try texts against."""

import os
import secrets
from pathlib import Path

from medllm.errors import SetupError
from medllm.places import config_dir

NAME = "digest.key"


def own_key() -> bytes:
    """The key, made where there is none; raises OSError where it cannot be kept.

    Raises:
        SetupError: it is cut off: digests under an empty key would be anybody's to try.
    """
    path = own_key_path()
    if not path.is_file():
        _write_key(path)
    if len(key := path.read_bytes()) < 32:
        fix = "restore it; or remove it, and texts that were digested before are not found again"
        raise SetupError(f"{path} is no key: it has {len(key)} bytes of 32", fix)
    return key


def own_key_path() -> Path:
    """Where it lies."""
    return config_dir() / NAME


def _write_key(path: Path) -> None:
    """A new random key, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{NAME}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    partial.replace(path)
