"""Texts for the audit log, encrypted to public keys: this machine cannot read them again.

The format is that of age (https://age-encryption.org/v1), so Debian's `age` opens them.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medllm.errors import SetupError

SECRET = "AGE-SECRET-KEY-"
FIX = "name a file that `age-keygen -y` wrote, one public key a line"


class Seal:
    """Encrypts to all the public keys of a file; who holds one of their secrets reads it."""

    def __init__(self, path: Path) -> None:
        """Raises SetupError where the file is missing or holds anything but public keys."""
        try:
            from pyrage import RecipientError, x25519
        except ModuleNotFoundError as missing:
            message = "texts in the audit log need pyrage, which is not installed"
            raise SetupError(message, "pip install 'medllm[age]'") from missing
        self.keys = _read_keys(path)
        """The public keys, as age writes them."""
        self._recipients = []
        for key in self.keys:
            try:
                self._recipients.append(x25519.Recipient.from_str(key))
            except RecipientError as problem:
                raise SetupError(f"{path} holds what is no public key of age", FIX) from problem
        self.seal({})  # tried before it is needed

    def seal(self, texts: Mapping[str, Any]) -> str:
        """Texts as JSON, encrypted, in base64."""
        from pyrage import encrypt

        content = json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace")
        return base64.b64encode(encrypt(content, self._recipients)).decode()


def _read_keys(path: Path) -> list[str]:
    """The lines that are no comments.

    Raises:
        SetupError: the file cannot be read, is empty, or holds a secret key.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise SetupError(f"{path} cannot be read: {why}", FIX) from problem
    if any(SECRET in line for line in lines):
        message = f"{path} holds a secret key, which reads all that is encrypted to it"
        raise SetupError(message, f"take it off this machine, and {FIX}")
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SetupError(f"{path} holds no public key", FIX)
    return keys
