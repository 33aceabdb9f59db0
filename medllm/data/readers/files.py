"""The bytes and the text of files as they come: plain, gzipped, or a member of a zip archive."""

import gzip
import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
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
WESTERN = "cp1252"
"""What Excel writes where UTF-8 is not asked for, in Western Europe and the Americas."""
NOT_WESTERN = re.compile(
    r"[¡-ÿ]{4}|(?<=\w)[„”“‡†‰¤¦¬¢£¥](?=\w)|(?<=[^\W\d_m])[¡¿³¹¾¼½¶](?=[a-zß-ÿ])"
    r"|(?<![\dA-ZÀ-Þnt])º(?![cf]\b)(?=[a-zß-ÿ])"
)
"""What other code pages look like in that one: Cyrillic or Greek words, Polish, DOS's umlauts; but
not 38ºC, nºde, cm³H2O and M±SD."""
OTHERS = (
    "cp1250 Polish, Czech; cp1251 Russian; cp1253 Greek; cp1254 Turkish; cp1256 Arabic; "
    "cp932 Japanese; gb18030 or big5 Chinese; cp949 Korean; utf-16-le"
)
"""Encodings that spreadsheets write elsewhere."""
DISGUISES = {
    b"PK\x03\x04": ("a workbook or another archive", "save its table as CSV, or name it .zip"),
    b"\xd0\xcf\x11\xe0": ("an old file of Office", "save its table as CSV, its text as .txt"),
    b"\x1f\x8b": ("gzip's", "name it .gz"),
    b"{\\rtf": ("RTF", "save its text as .txt"),
    b"%PDF-": ("PDF", "save its text as .txt"),
    b"<table": ("HTML", "save its table as CSV"),
    b"<html": ("HTML", "save its text as .txt, its table as CSV"),
    b"<!doctype html": ("HTML", "save its text as .txt, its table as CSV"),
    b"msh|": ("HL7 messages", "write what they say as rows of CSV or JSONL"),
}
"""How files begin that are no text, or text with marks, whatever they are called."""


def check_content(path: Source, begins: bytes) -> None:
    """Raise DataError where a file that is called a text is something else by its first bytes."""
    head = begins[:64].lstrip().lower()
    for begin, (what, fix) in DISGUISES.items():
        if head.startswith(begin.lower()):
            raise DataError(f"{path}: its name says text, its content is {what}", fix)


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
        DataError: it is not of the encoding, which names the line, or no text at all.
    """
    if not encoding.lower().startswith("utf") and letters_in_utf_8(path):
        raise DataError(
            f"{path}: is UTF-8, and would be read as {encoding}: its letters would be others",
            "leave `encoding` out of dataset.yaml; files of two encodings are two datasets",
        )
    with open_bytes(path) as file:
        check_content(path, cast(BufferedReader, file).peek(1))
        text = TextIOWrapper(file, encoding=encoding, newline=newline)
        try:
            yield text
        except UnicodeDecodeError as problem:
            if encoding != "utf-8":
                raise DataError(
                    f"{path}: not {encoding} text: {problem.reason}", "check the file's encoding"
                ) from None
            raise undecodable(path) from None


def letters_in_utf_8(path: Source) -> bool | None:
    """Whether a file that is UTF-8 has letters that are not ASCII; None where it is not UTF-8."""
    decoder, is_ascii = getincrementaldecoder("utf-8")(), True
    with open_bytes(path) as file:
        try:
            for chunk in iter(lambda: file.read(1 << 16), b""):
                is_ascii = is_ascii and chunk.isascii()
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
    return not is_ascii


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
    first, is_mixed, encoding = find_undecodable(path)
    if is_mixed:
        return DataError(
            f"{path}:{first}: not UTF-8 text, while other lines are: it is of two encodings",
            "export it anew in one of them; read as either, letters of some lines would be others",
        )
    one = f"iconv -f {encoding} -t utf-8 {path.name}; or `encoding: {encoding}`"
    other = f"save it as UTF-8, or say `encoding: NAME` ({OTHERS})"
    where = "in a dataset.yaml beside it"
    return DataError(f"{path}:{first}: not UTF-8 text", f"{one if encoding else other} {where}")


def find_undecodable(path: Source) -> tuple[int, bool, str]:
    """The first line that is not UTF-8, whether others are, and what the file may be instead."""
    first, is_western, are = 0, True, {False: 0, True: 0}
    with open_bytes(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                return 1, False, "utf-16"
            if not line.isascii():
                is_text = _is_utf_8(line)
                are[is_text] += 1
                is_western = is_western and (is_text or _reads_western(line))
                first = first or (0 if is_text else number)
    return first, all(are.values()), WESTERN if is_western else ""


def _is_utf_8(line: bytes) -> bool:
    """Whether a line is UTF-8, as a file that is not may have some."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _reads_western(line: bytes) -> bool:
    """Whether a line that is not UTF-8 reads as words in Windows' Western encoding."""
    try:
        text = line.decode(WESTERN)
    except UnicodeDecodeError:
        return False
    return "\x00" not in text and not NOT_WESTERN.search(text)
