"""The key that an audit log is signed with (Ed25519, RFC 8032)."""

import os
from pathlib import Path

from medllm.errors import ArtifactError, SetupError


class Signer:
    """A private key in a file of this user, made where there is none."""

    def __init__(self, path: Path) -> None:
        """Raises SetupError where the file is no private key, or cannot be written."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            if not path.is_file():
                _write(path)
            key = form.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as problem:
            message = f"{path} cannot be used to sign the audit log: {problem}"
            raise SetupError(message, "see that it is a private key of yours") from problem
        if not isinstance(key, Ed25519PrivateKey):
            raise SetupError(f"{path} is no Ed25519 key", "remove it, and another one is made")
        self._key, public = key, key.public_key()
        self.public_pem = public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, content: bytes) -> str:
        """The signature, in hex."""
        return self._key.sign(content).hex()


def read_public(path: Path) -> bytes:
    """A public key, as PEM; raises ArtifactError where the file holds none."""
    try:
        is_signed(content := path.read_bytes(), "", b"")
    except (OSError, ValueError) as problem:
        why = f": {problem.strerror}" if isinstance(problem, OSError) else ""
        message = f"{path} holds no public key of an audit log{why}"
        raise ArtifactError(message, "name another with --public-key") from problem
    return content


def is_signed(public_pem: bytes, signature: str, content: bytes) -> bool:
    """Whether the owner of a public key signed a content.

    Raises:
        ValueError: it is no public key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = form.load_pem_public_key(public_pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("no Ed25519 key")
    try:
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):  # or no hex at all
        return False
    return True


def _write(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
