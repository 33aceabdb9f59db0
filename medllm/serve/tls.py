"""TLS: the certificate of a server and its key, checked before anything slow."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medllm.errors import ConfigError, SetupError

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form."""

    certificate: Path
    key: Path
    ends: datetime
    """When the first certificate of the file ends."""

    @property
    def warning(self) -> str | None:
        """What is to be told of the end of the certificate, when it is near or past."""
        left, day = self.ends - datetime.now(UTC), f"{self.ends:%Y-%m-%d %H:%M} UTC"
        if left < timedelta():
            return f"the certificate ended on {day}: programs that check it refuse this server"
        if left < SOON:
            return f"the certificate ends on {day}; a new one is read when the server starts again"
        return None


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
    from cryptography.x509 import load_pem_x509_certificates

    for path in (certificate, key):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
        found = load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ssl.SSLError, ValueError) as problem:
        message = f"{certificate} and {key} cannot be used for TLS: {problem}"
        raise SetupError(message, "name a certificate and its key without a password") from problem
    return Tls(certificate, key, min(each.not_valid_after_utc for each in found))


def _check_readable(path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as problem:
        message = f"{path} cannot be read for TLS: {problem.strerror}"
        raise SetupError(message, "name a file in PEM form that this user may read") from problem


def _refuse_password() -> str:
    raise ValueError("the key has a password")
