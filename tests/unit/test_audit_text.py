"""Texts in the audit log: encrypted, or the server does not start."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from medllm.errors import SetupError
from medllm.serve.audit.sealed import Seal

SECRET = "Zebulon Quackenbush has a fever of 39.5 °C"


@pytest.fixture(scope="module")
def identity() -> Any:
    x25519 = pytest.importorskip("pyrage").x25519
    return x25519.Identity.generate()


@pytest.fixture
def keys(identity: Any, tmp_path: Path) -> Path:
    path = tmp_path / "recipients.txt"
    path.write_text(f"# the data protection officer\n\n{identity.to_public()}\n")
    return path


def test_what_was_sealed_is_read_by_who_has_the_secret_alone(identity: Any, keys: Path) -> None:
    import pyrage

    sealed = Seal(keys).seal({"prompt": SECRET, "answer": "Rest."})

    content = base64.b64decode(sealed, validate=True)
    assert b"Quackenbush" not in content and content.startswith(b"age-encryption.org/v1")
    assert json.loads(pyrage.decrypt(content, [identity])) == {"prompt": SECRET, "answer": "Rest."}
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(content, [pyrage.x25519.Identity.generate()])


def test_each_of_several_keys_reads_it(identity: Any, keys: Path) -> None:
    import pyrage

    other = pyrage.x25519.Identity.generate()
    keys.write_text(f"{identity.to_public()}\n{other.to_public()}\n")
    sealed = base64.b64decode(Seal(keys).seal({"prompt": SECRET}))

    assert pyrage.decrypt(sealed, [other]) == pyrage.decrypt(sealed, [identity])


def test_the_program_age_opens_it(identity: Any, keys: Path, tmp_path: Path) -> None:
    if not (age := shutil.which("age")):
        pytest.skip("age is not installed")
    secret = tmp_path / "key.txt"
    secret.write_text(f"{identity}\n")
    content = base64.b64decode(Seal(keys).seal({"prompt": SECRET}))

    opened = subprocess.run(
        [age, "--decrypt", "--identity", str(secret)],
        input=content,
        capture_output=True,
        check=True,
    )

    assert json.loads(opened.stdout) == {"prompt": SECRET}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no public key"),
        (b"# a comment\n", "holds no public key"),
        (b"age1notakey\n", "no public key of age"),
        (b"ssh-ed25519 AAAA me@here\n", "no public key of age"),
        (b"\xff\xfe", "cannot be read: it is no text"),
        (b"AGE-SECRET-KEY-1QQQQ\n", "holds a secret key"),
    ],
)
def test_a_wrong_or_missing_key_is_named(
    content: bytes | None, said: str, identity: Any, tmp_path: Path
) -> None:
    path = tmp_path / "recipients.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SetupError, match=said) as refused:
        Seal(path)
    assert "age1notakey" not in refused.value.message
    assert "age-keygen" in (refused.value.fix or "")


def test_a_public_key_beside_its_secret_is_refused(identity: Any, keys: Path) -> None:
    """`age-keygen` writes both into one file, and the secret must not lie on the server."""
    keys.write_text(f"# public key: {identity.to_public()}\n{identity}\n")

    with pytest.raises(SetupError, match="holds a secret key"):
        Seal(keys)
