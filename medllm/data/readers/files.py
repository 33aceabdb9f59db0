"""The bytes and the text of files as they come: plain, gzipped, or a member of a zip archive."""

import gzip
import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast
from zipfile import Path as Member

from medllm.config.dialect import SURROGATE
from medllm.config.loader import NOT_UTF_8
from medllm.errors import DataError

Source = Path | Member
"""A file on disk, or a member of a zip archive."""
LONGEST_LINE = 1 << 25
"""Characters of a row, a document or a line; the work on one takes some thirty times its memory."""
MUCH_UNPACKED = 1 << 28
"""Bytes. So much may come out of any archive."""
MOST_UNPACKED = 200
"""Text packs to a third or a tenth, a table of equal rows to a hundredth of its size."""


def kind_of(path: Source) -> str:
    """The ending that says how to read a file, without `.gz`."""
    suffixes = [suffix.lower() for suffix in Path(path.name).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


class _Unpacked(RawIOBase):
    """The content of a gzip file, as long as it does not unpack to far more than text does."""

    def __init__(self, path: Source, packed: IO[bytes]) -> None:
        self._path = path
        self._packed = packed
        self._file = gzip.GzipFile(fileobj=packed)
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._bytes += len(content)
        check_unpacked(self._path, self._bytes, self._packed.tell())
        buffer[: len(content)] = content
        return len(content)


def check_unpacked(path: Source, unpacked: int, packed: int) -> None:
    """Raise DataError where so many bytes come out of so few that they can be no text."""
    if unpacked > MUCH_UNPACKED and unpacked > MOST_UNPACKED * max(packed, 1):
        raise DataError(
            f"{path}: unpacks to {unpacked / 1e9:.1f} GB and more, over {MOST_UNPACKED} times its "
            "own size",
            "check where it is from; what is in good order can be unpacked before it is read",
        )


def check_readable(path: Path) -> None:
    """Raise DataError for what cannot be read, and for what never ends: a pipe, a device.

    Nor is a file read whose name is not UTF-8: names stand in ids and manifests, which are.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file", "name a file, or a folder of files")
    if path.exists() and not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read: permission denied", "check its permissions")
    if SURROGATE.search(str(path)):
        raise DataError(f"{path}: the name of the file is not UTF-8", NOT_UTF_8)


@contextmanager
def open_bytes(path: Source) -> Iterator[BinaryIO]:
    """The bytes of a file, unzipped, without a byte order mark.

    Raises:
        DataError: it cannot be read, or unpacks to far more than text does.
    """
    with _opened(path) as raw:
        is_zipped = path.name.lower().endswith(".gz")
        file = cast(BufferedReader, BufferedReader(_Unpacked(path, raw)) if is_zipped else raw)
        if file.peek(len(BOM_UTF8))[: len(BOM_UTF8)] == BOM_UTF8:
            file.read(len(BOM_UTF8))
        yield cast(BinaryIO, file)


@contextmanager
def _opened(path: Source) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read: {problem.strerror}", "check its permissions, or copy it anew"
        ) from None
    with file:
        yield file


@contextmanager
def open_text(path: Source, newline: str | None, encoding: str = "utf-8") -> Iterator[TextIO]:
    """The text of a file; `newline` as for `open`.

    Raises:
        DataError: it is not of the encoding; names the line.
    """
    with open_bytes(path) as file:
        text = TextIOWrapper(file, encoding=encoding, newline=newline)
        try:
            yield text
        except UnicodeDecodeError as problem:
            if encoding != "utf-8":
                raise DataError(
                    f"{path}: not {encoding} text: {problem.reason}", "check the file's encoding"
                ) from None
            raise undecodable(path) from None


def read_lines(path: Source, file: TextIO) -> Iterator[str]:
    """The lines of a text.

    Raises:
        DataError: one is longer than any row; names it.
    """
    number = 1
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise too_long(f"{path}:{number}: a line")
        yield line
        number += 1


def too_long(what: str) -> DataError:
    """The error of something that is longer than what is held in memory at once."""
    message = f"{what} of more than {LONGEST_LINE >> 20} million characters"
    return DataError(message, "split it: no row or document is so long")


def undecodable(path: Source) -> DataError:
    """The error of a file that is not UTF-8: it names the line, and what the file may be."""
    line, encoding = _undecodable(path)
    return DataError(
        f"{path}:{line}: not UTF-8 text",
        f"iconv -f {encoding} -t utf-8 {path.name}; or `encoding: {encoding}` in a dataset.yaml "
        "beside it",
    )


def _undecodable(path: Source) -> tuple[int, str]:
    """The first line that is not UTF-8, and what the file may be instead."""
    number = 1
    with open_bytes(path) as file:
        while line := file.readline(LONGEST_LINE):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                wide = number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
                return number, "utf-16" if wide else "cp1252"
            number += line.endswith(b"\n")
    return number, "cp1252"
