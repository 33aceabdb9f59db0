"""TLS: the certificate of a server and its key, checked before anything slow."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from medllm.errors import ConfigError, SetupError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form."""

    certificate: Path
    key: Path


def read_tls(certificate: Path | None, key: Path | None) -> Tls | None:
    """The files, tried; None where none are named.

    Raises:
        ConfigError: one is named without the other.
        SetupError: they cannot be read, or do not belong together.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "tls_key" if key is None else "tls_certificate"
        raise ConfigError(f"TLS needs serve.{missing}, too", "name both files, in PEM form")
    for path in (certificate, key):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ssl.SSLError, ValueError) as problem:
        message = f"{certificate} and {key} cannot be used for TLS: {problem}"
        raise SetupError(message, "name a certificate and its key without a password") from problem
    return Tls(certificate, key)


def _check_readable(path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as problem:
        message = f"{path} cannot be read for TLS: {problem.strerror}"
        raise SetupError(message, "name a file in PEM form that this user may read") from problem


def _refuse_password() -> str:
    raise ValueError("the key has a password")
