"""Raw files → rows (plain mappings), streamed: nothing loads a whole corpus.

JSON, JSONL, CSV, TSV, text and XML, also gzipped or within a zip archive, and Parquet. A JSON
document may be a list of rows, a mapping of ids to rows (PubMedQA's release), or a mapping of split
names to lists.
"""

import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from zipfile import BadZipFile, ZipFile
from zipfile import Path as Member

import numpy as np

from medllm.data.example import read_jsonl
from medllm.data.readers.delimited import read_delimited, unusual_form
from medllm.data.readers.documents import read_text, read_xml
from medllm.data.readers.files import Source, check_unpacked, kind_of, open_bytes, open_text
from medllm.errors import DataError

Row = dict[str, Any]
KEY = "__key__"
"""The key under which the id of a row is kept that stands outside it, as in a mapping of ids."""
SPLIT = "__split__"
"""The key under which the name of the split is kept that a row comes from."""
FILE = "__file__"
"""The key under which the path of the file is kept that a row comes from."""
PART = "__part__"
"""The key under which the name of a file is kept, by which ids of different files differ."""
NUMBER = "__number__"
"""The key under which the number of a row within its file is kept."""
MARKS = frozenset({SPLIT, FILE, PART, NUMBER})
"""The keys that medllm alone sets: columns of a file that are named so are not read."""

LONGEST_ITEM, LONGEST_MAPPING = 1 << 27, 1 << 30
"""Bytes of an item of a JSON list; of what stands under one key, as all rows of a split."""
DEEPEST = 100
"""Levels of lists and mappings in a row; Python's own recursion ends near 1000."""
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""A whole string of JSON."""
NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
VERY_DEEP = 500
"""Levels. Of many more ijson, which names each place by all places around it, would not end."""


NARROW: dict[str, type[np.floating[Any]]] = {"halffloat": np.float16, "float": np.float32}
"""pyarrow's types of numbers that Python widens: their shortest decimal is what was written."""
UNREAD = {
    "save its table as CSV (UTF-8), and look whether numbers and dates are as they were":
        {".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".sav", ".zsav", ".por", ".dta", ".sas7bdat",
         ".xpt", ".rds", ".rdata", ".sqlite", ".db", ".mdb", ".accdb"},
    "save its text as .txt or .jsonl":
        {".docx", ".doc", ".odt", ".pdf", ".rtf", ".html", ".htm", ".md", ".eml", ".msg"},
    "write what it says as rows of CSV or JSONL": {".hl7", ".cda", ".fhir"},
    "unpack it, or pack it as .gz or .zip": {".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz"},
}  # fmt: skip
"""What to do with files that hospitals have and that are not read."""


@dataclass(frozen=True)
class Layout:
    """What a file does not say of itself."""

    header: tuple[str, ...] = ()
    document_start: str | None = None
    encoding: str | None = None
    """Of text files; default UTF-8, or what a table is told to be by its content."""


def check_kind(path: Source) -> None:
    """Raise DataError for a file of a kind that nothing here reads."""
    if kind_of(path) not in READERS:
        readable = f"use one of {', '.join(sorted(READERS))}, also .gz"
        fix = next((fix for fix, kinds in UNREAD.items() if kind_of(path) in kinds), readable)
        raise DataError(f"{path.name}: not a data file medllm reads", fix)


def read_rows(path: Source, layout: Layout | None = None) -> Iterator[Row]:
    """The rows of a data file.

    Raises:
        DataError: missing, an unknown kind of file, damaged, or not UTF-8; names the line where
            there are lines.
    """
    if not path.is_file():
        raise DataError(f"no such data file: {path}", "check the path")
    check_kind(path)
    reader = READERS[kind_of(path)]
    try:
        for number, row in enumerate(reader(path, layout or Layout()), 1):
            if is_deeper(row, DEEPEST):
                raise _too_deep(f"{path}: row {number}")
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as problem:
        raise DataError(
            f"{path}: its compressed content is damaged: {problem}", "fetch or copy it again"
        ) from None


def _read_lines(path: Source, layout: Layout) -> Iterator[Row]:
    return map(_without_marks, read_jsonl(path, layout.encoding or "utf-8"))


def _read_json(path: Source, layout: Layout) -> Iterator[Row]:
    import ijson

    if _is_jsonl(path):
        yield from _read_lines(path, layout)
        return
    encoding = layout.encoding or "utf-8"
    with open_text(path, newline="", encoding=encoding) as text:
        first = _first_character(text)
    try:
        with open_text(path, newline="", encoding=encoding) as text:
            if first == "[":
                meter = _Metered(path, text, LONGEST_ITEM)
                items = ijson.items(meter, "item", use_float=True, map_type=meter.object)
                yield from _objects(path, meter.each(items))
            else:
                meter = _Metered(path, text, LONGEST_MAPPING)
                pairs = ijson.kvitems(meter, "", use_float=True, map_type=meter.object)
                yield from _read_mapping(path, meter.each(pairs))
    except (ijson.JSONError, ValueError) as problem:
        raise DataError(
            f"{path}: not valid JSON: {_first_line(problem)}", "correct the file or fetch it again"
        ) from None


def _first_line(problem: Exception) -> str:
    """What is wrong. The lines below quote the file, and are bytes where it is not UTF-8."""
    told = problem.args[0] if problem.args else "?"
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    return text.partition("\n")[0]


class _Object(dict[str, Any]):
    """A JSON object that tells its file of a key that is written twice: a value would be lost."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            self._told.append(key)
        super().__setitem__(key, value)


class _Metered:
    """A text that is read, as UTF-8, no further than so many bytes for one item."""

    def __init__(self, path: Source, file: TextIO, most: int) -> None:
        self._path = path
        self._file = file
        self._most = most
        self._read = 0
        self._nesting = Nesting()
        self._doubled: list[str] = []

    def object(self) -> _Object:
        """An empty object of this file."""
        return _Object(self._doubled)

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            DataError: the item is too long.
        """
        content = self._file.read(size).encode()
        self._read += len(content)
        if self._read > self._most:
            raise DataError(
                f"{self._path}: an item of more than {self._most >> 20} MiB", "write it as JSONL"
            )
        if self._nesting.deepest_in(content) > VERY_DEEP:
            raise _too_deep(f"{self._path}: an item")
        return content

    def each(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items that are read of it."""
        for item in items:
            if self._doubled:
                raise DataError(
                    f"{self._path}: a key is written twice in an object", "correct the file"
                )
            self._read = 0
            yield item


class Nesting:
    """How deep lists and mappings are nested in JSON that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._open = b""
        """The quote of a string that goes on in the next piece, and half of an escape."""

    def deepest_in(self, content: bytes) -> int:
        """The deepest level of the next piece."""
        outside, quote, string = STRING.sub(b"", self._open + content).partition(b'"')
        is_half = (len(string) - len(string.rstrip(b"\\"))) % 2
        self._open = quote + b"\\" * is_half
        deepest = self._depth
        for bracket in outside.translate(None, NO_BRACKET):
            self._depth += 1 if bracket in b"[{" else -1
            deepest = max(deepest, self._depth)
        return deepest


def _too_deep(what: str) -> DataError:
    message = f"{what}: lists or mappings nested more than {DEEPEST} deep"
    return DataError(message, "correct or remove it")


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists or mappings are nested deeper than so many levels."""
    inner = [value]
    while inner and levels:
        inner = [
            one
            for outer in inner
            for one in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(one, list | dict)
        ]
        levels -= 1
    return bool(inner)


def _without_marks(row: Row) -> Row:
    if MARKS.isdisjoint(row):
        return row
    return {name: value for name, value in row.items() if name not in MARKS}


def _objects(path: Source, items: Iterator[Any]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise DataError(
                f"{path}: item {number}: a row must be a JSON object", "correct or remove the item"
            )
        yield _without_marks(item)


def _read_mapping(path: Source, pairs: Iterator[tuple[str, Any]]) -> Iterator[Row]:
    objects = lists = 0
    others = []  # by their number: a key may be somebody's name
    for number, (key, value) in enumerate(pairs, 1):
        if isinstance(value, dict):
            objects += 1
            yield {KEY: key, **_without_marks(value)}
        elif isinstance(value, list):
            lists += 1
            yield from ({SPLIT: key, **row} for row in _objects(path, iter(value)))
        else:
            others.append(number)
    if not objects + lists or (objects and others):
        raise DataError(
            f"{path}: entry {others[0]} holds no row" if objects else f"{path}: holds no rows",
            "a JSON document must be a list of objects, or a mapping of ids or splits to them",
        )


def _is_jsonl(path: Source) -> bool:
    """Whether a .json file holds one object a line (MedMCQA's release does)."""
    with open_bytes(path) as file:
        lines = [file.readline(1 << 20).strip() for _ in range(2)]
    return all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def _first_character(text: TextIO) -> str:
    while character := text.read(1):
        if not character.isspace():
            return character
    return ""


def _read_table(path: Source, layout: Layout) -> Iterator[Row]:
    if layout.document_start:  # lines of a text, as a token and its tag, that are no rows
        yield from read_text(path, layout.document_start, layout.encoding or "utf-8")
        return
    rows = read_delimited(path, kind_of(path), layout.header, layout.encoding)
    yield from map(_without_marks, rows)


def _read_parquet(path: Source, layout: Layout) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            for batch in table.iter_batches(batch_size=1024):
                yield from map(_without_marks, as_written(batch.to_pylist(), table.schema_arrow))
    except OverflowError as problem:  # a date before the year 1 or after 9999
        raise DataError(
            f"{path}: holds what Python cannot: {problem}", "correct the column, or cast it to text"
        ) from None
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as problem:
        reason = (str(problem).splitlines() or ["?"])[0]
        raise DataError(
            f"{path}: not a valid Parquet file: {reason:.200}", "fetch or copy it again"
        ) from None


def as_written(rows: Iterable[Row], columns: Iterable[Any]) -> Iterator[Row]:
    """Rows whose numbers of 16 and 32 bits are what was written: 5.1, not 5.099999904632568.

    `columns` are a schema of pyarrow; numbers in lists and objects are meant, too.
    """
    narrow = [each for each in columns if re.search(r"\b(half)?float\b", str(each.type))]
    for row in rows:
        yield row | {each.name: _as_written(row.get(each.name), each.type) for each in narrow
                     if each.name in row}  # fmt: skip


def _as_written(value: Any, kind: Any) -> Any:
    if isinstance(value, float) and (narrow := NARROW.get(str(kind))):
        return float(str(narrow(value)))
    if isinstance(value, list) and hasattr(kind, "value_type"):
        return [_as_written(each, kind.value_type) for each in value]
    if isinstance(value, dict) and hasattr(kind, "get_field_index"):
        return value | {each.name: _as_written(value.get(each.name), each.type) for each in kind}
    return value


def unusual_forms(path: Source, layout: Layout) -> dict[str, str]:
    """How tables are read that are not of UTF-8 and commas or tabs, by name.

    That is the file's own, or the names of members of a zip archive.

    Raises:
        DataError: an archive is damaged, or an encoding cannot be told.
    """
    files: dict[str, Source] = {path.name: path}
    with _open_archive(path) if kind_of(path) == ".zip" else nullcontext() as members:
        if members is not None:
            files = {f"{path.name}/{name}": member for name, member in members.items()}
        forms = {
            name: unusual_form(file, layout.header, layout.encoding) for name, file in files.items()
        }
    return {name: form for name, form in forms.items() if form}


def _read_zip(path: Source, layout: Layout) -> Iterator[Row]:
    with _open_archive(path) as members:
        for name, member in members.items():
            for number, row in enumerate(read_rows(member, layout), 1):
                yield {FILE: name, PART: name, NUMBER: number, **row}


@contextmanager
def _open_archive(path: Source) -> Iterator[dict[str, Member]]:
    """The data files in a zip archive by name, in order.

    Raises:
        DataError: the archive is damaged, also where that is found while a file is read.
    """
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            members = [one for one in archive.infolist() if kind_of(Path(one.filename)) in READERS]
            size = path.stat().st_size if isinstance(path, Path) else 0
            check_unpacked(path, sum(one.file_size for one in members), size)
            files = {one: Member(archive, one) for one in sorted({one.filename for one in members})}
            yield {
                name: file
                for name, file in files.items()
                if kind_of(file) in READERS and kind_of(file) != ".zip" and file.is_file()
            }
    except (BadZipFile, NotImplementedError, RuntimeError, OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{path}: the zip archive is damaged or locked: {problem}", "fetch or copy it again"
        ) from None


READERS: dict[str, Callable[[Source, Layout], Iterator[Row]]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), _read_lines),
    ".json": _read_json,
    **dict.fromkeys((".csv", ".tsv"), _read_table),
    **dict.fromkeys(
        (".txt", ".tokens", ".raw"),
        lambda path, layout: read_text(path, layout.document_start, layout.encoding or "utf-8"),
    ),
    ".xml": lambda path, layout: read_xml(path),
    ".parquet": _read_parquet,
    ".zip": _read_zip,
}
