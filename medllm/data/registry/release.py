"""Which files of a folder are those of a dataset."""

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import product
from pathlib import Path, PurePath

from medllm.data.readers.files import kind_of
from medllm.data.readers.rows import READERS
from medllm.data.registry.specs import SPEC_FILE, DatasetSpec
from medllm.data.split import Split
from medllm.errors import DataError

ABOUT = re.compile(
    r"(?i)(?:(?:licen[cs]e|copying|copyright|read[ _-]?me|(?:sha|md)[-_]?\d+(?:[-_]?sums?)?|"
    r"checksums?|data[ _-]?use[ _-]?agreement)(?:[ ._-]|$)|"
    r"(?:notice|authors|contributors|contributing|citation|changelog|version|manifest|"
    r"requirements)(?:\.|$))"
)
"""Names of files that say how to use data, and are none."""
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".dcm"})
"""Rows name them."""
TEXT = frozenset({".txt", ".tokens", ".raw"})


def find_files(folder: Path, spec: DatasetSpec) -> tuple[Path, ...]:
    """The raw files of a dataset in its folder; the first pattern that matches counts."""
    for pattern in spec.files:
        found = {path for one in alternatives(pattern) for path in folder.glob(one)}
        kept = (path for path in sorted(found) if _is_data(path, folder, spec))
        if files := tuple(kept):
            return files
    return ()


def check_links(folder: Path) -> None:
    """Raise DataError for a link to a data file that is gone: its rows would be missed."""
    for path in sorted(folder.rglob("*")):
        # one that leads to itself never had rows
        is_gone = not path.exists() and not Path(os.path.realpath(path)).is_symlink()
        if is_gone and kind_of(path) in READERS and not _is_hidden(path.relative_to(folder)):
            raise DataError(f"{path} leads to no file", "put the file back, or remove the link")


def left_out(folder: Path, spec: DatasetSpec, files: Sequence[Path]) -> tuple[str, ...]:
    """The files of a folder that are not among those that are read, hidden ones apart.

    Links to folders, which are not followed, are among them. Bytes of their names that are not
    UTF-8 are spelt out.
    """
    names = (
        path.relative_to(folder)
        for path in sorted({*folder.rglob("*")} - {*files})
        if (path.is_file() or path.is_symlink())
        and path.name != SPEC_FILE
        and path.absolute() != spec.test_ids
    )
    return tuple(
        os.fsencode(name).decode("utf-8", "backslashreplace")
        for name in names
        if not _is_hidden(name) and kind_of(name) not in IMAGES
    )


def _is_data(path: Path, folder: Path, spec: DatasetSpec) -> bool:
    kind = kind_of(path)
    if path.absolute() == spec.test_ids:
        return False
    if kind not in READERS or (kind in TEXT and ABOUT.match(path.name)):
        return False
    return path.is_file() and not _is_hidden(path.relative_to(folder))


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def alternatives(pattern: str) -> list[str]:
    """A pattern with the alternatives of its braces spelt out, each also gzipped."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [part.split(",") if n % 2 else [part] for n, part in enumerate(parts)]
    plain = ["".join(chosen) for chosen in product(*choices)]
    return [*plain, *(f"{one}.gz" for one in plain if not one.endswith("*"))]


def split_of_file(name: str, spec: DatasetSpec) -> Split | None:
    """The official split that a file holds, told by its name."""
    for split, patterns in spec.splits.items():
        if any(fnmatch(PurePath(name).name, pattern) for pattern in patterns):
            return split
    return None
