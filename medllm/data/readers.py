"""Raw files → rows (plain mappings), streamed: nothing loads a whole corpus.

JSON, JSONL, CSV, TSV, text and XML, also gzipped or within a zip archive, and Parquet. A JSON
document may be a list of rows, a mapping of ids to rows (PubMedQA's release), or a mapping of split
names to lists.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile
from zipfile import Path as Member

from medllm.data.documents import read_text, read_xml
from medllm.data.example import read_jsonl
from medllm.data.files import Source, kind_of, open_bytes, open_text
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

LONGEST_FIELD = 1 << 24
"""Characters of a CSV field. A quote that is never closed would else swallow the rest of a file."""


@dataclass(frozen=True)
class Layout:
    """What a file does not say of itself."""

    header: tuple[str, ...] = ()
    document_start: str | None = None


def read_rows(path: Source, layout: Layout | None = None) -> Iterator[Row]:
    """The rows of a data file.

    Raises:
        DataError: missing, an unknown kind of file, damaged, or not UTF-8; names the line where
            there are lines.
    """
    if not path.is_file():
        raise DataError(f"no such data file: {path}", "check the path")
    reader = READERS.get(kind_of(path))
    if reader is None:
        raise DataError(
            f"{path.name}: not a data file medllm reads",
            f"use one of {', '.join(sorted(READERS))}, also .gz",
        )
    try:
        yield from reader(path, layout or Layout())
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(
            f"{path}: the gzip file is damaged: {problem}", "fetch or copy it again"
        ) from None


def _read_json(path: Source, layout: Layout) -> Iterator[Row]:
    import ijson

    if _is_jsonl(path):
        yield from read_jsonl(path)
        return
    with open_bytes(path) as file:
        first = _first_character(file)
    try:
        with open_bytes(path) as file:
            if first == b"[":
                yield from _objects(path, ijson.items(file, "item", use_float=True))
            else:
                yield from _read_mapping(path, ijson.kvitems(file, "", use_float=True))
    except (ijson.JSONError, ValueError) as problem:
        raise DataError(
            f"{path}: not valid JSON: {str(problem).splitlines()[0]}",
            "mend the file or fetch it again",
        ) from None


def _objects(path: Source, items: Iterator[Any]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise DataError(
                f"{path}: item {number}: a row must be a JSON object", "mend or remove the item"
            )
        yield item


def _read_mapping(path: Source, pairs: Iterator[tuple[str, Any]]) -> Iterator[Row]:
    objects = lists = 0
    others = []  # by their number: a key may be somebody's name
    for number, (key, value) in enumerate(pairs, 1):
        if isinstance(value, dict):
            objects += 1
            yield {KEY: key, **value}
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


def _first_character(file: BinaryIO) -> bytes:
    while character := file.read(1):
        if not character.isspace():
            return character
    return b""


def _read_csv(path: Source, layout: Layout, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(path, newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        ended = 0  # the line on which the last good row ends
        try:
            names, rows = _head(path, lines, layout.header)
            width, ended = len(names), lines.line_num
            for fields in rows:
                ended = lines.line_num
                if len(fields) == width:
                    yield dict(zip(names, fields, strict=True))
                elif len(fields) > width:
                    raise DataError(
                        f"{path}:{ended}: more fields than columns",
                        "quote the field that holds a comma",
                    )
                elif fields:  # what is missing is None; a blank line is no row
                    yield dict(zip_longest(names, fields))
        except csv.Error as problem:
            raise DataError(
                f"{path}:{ended + 1}: not valid CSV: {problem}",
                "check the quotes of the row that begins on this line",
            ) from None


def _head(
    path: Source, lines: Iterator[list[str]], header: tuple[str, ...]
) -> tuple[list[str], Iterator[list[str]]]:
    """The names of the columns, and the rows below them; a first line may be a row already."""
    first = next(lines, [])
    names = [name.strip() for name in first]
    if header and tuple(map(str.lower, names)) != header:
        return list(header), chain([first] if first else [], lines)
    if twice := {name for name in names if name and names.count(name) > 1}:
        places = [number for number, name in enumerate(names, 1) if name == min(twice)]
        where = f"{path}:1: columns {places[0]} and {places[1]}"  # a name may be a value of a row
        raise DataError(f"{where} have the same name", "rename one of them")
    return first, lines


def _read_tsv(path: Source, layout: Layout) -> Iterator[Row]:
    return _read_csv(path, layout, delimiter="\t")


def _read_parquet(path: Source, layout: Layout) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as problem:
        reason = (str(problem).splitlines() or ["?"])[0]
        raise DataError(
            f"{path}: not a valid Parquet file: {reason:.200}", "fetch or copy it again"
        ) from None


def _read_zip(path: Source, layout: Layout) -> Iterator[Row]:
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                member = Member(archive, name)
                if kind_of(member) in READERS and kind_of(member) != ".zip" and member.is_file():
                    for number, row in enumerate(read_rows(member, layout), 1):
                        yield {FILE: name, PART: name, NUMBER: number, **row}
    except (BadZipFile, NotImplementedError, RuntimeError, OSError) as problem:
        raise DataError(
            f"{path}: the zip archive is damaged or locked: {problem}", "fetch or copy it again"
        ) from None


READERS: dict[str, Callable[[Source, Layout], Iterator[Row]]] = {
    ".jsonl": lambda path, layout: read_jsonl(path),
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    **dict.fromkeys(
        (".txt", ".tokens", ".raw"), lambda path, layout: read_text(path, layout.document_start)
    ),
    ".xml": lambda path, layout: read_xml(path),
    ".parquet": _read_parquet,
    ".zip": _read_zip,
}
