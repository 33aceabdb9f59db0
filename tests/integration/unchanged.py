"""What several tests share, and none may change."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path


@contextmanager
def unchanged(place: Path) -> Iterator[Path]:
    """The file or folder, which must be at the end what it is now."""
    before = digests(place)
    yield place
    assert digests(place) == before, f"a test has changed {place}, which others read"


def digests(place: Path) -> dict[str, str]:
    """Of every file: where it is, and what is in it."""
    files = [place, *place.rglob("*")]
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
