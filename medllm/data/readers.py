"""Raw files → rows (plain mappings), streamed: nothing loads a whole corpus.

JSON, JSONL, CSV, TSV and Parquet; the first four also gzipped. A JSON document may be a list of
rows, a mapping of ids to rows (PubMedQA's release), or a mapping of split names to lists.
"""

import csv
import gzip
import json
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from medllm.errors import DataError

Row = dict[str, Any]
KEY = "__key__"
"""The key under which a mapping of ids to rows leaves the id in the row."""
SPLIT = "__split__"
"""The key under which a mapping of split names to lists leaves the split's name in the row."""


def read_rows(path: Path) -> Iterator[Row]:
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
        yield from reader(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(
            f"{path}: the gzip file is damaged: {problem}", "fetch or copy it again"
        ) from None


def kind_of(path: Path) -> str:
    """The ending that says how to read a file, without `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unzipped, without a byte order mark."""
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        if file.peek(len(BOM_UTF8))[: len(BOM_UTF8)] == BOM_UTF8:
            file.read(len(BOM_UTF8))
        yield cast(BinaryIO, file)


def _lines(path: Path) -> Generator[str]:
    """The lines of a text file with their ends."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path}:{number}: not UTF-8 text", f"iconv -f latin1 -t utf-8 {path.name}"
                ) from None


def _read_jsonl(path: Path) -> Iterator[Row]:
    with closing(_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as problem:
                raise DataError(
                    f"{path}:{number}: not JSON ({problem.msg})", "mend or remove the line"
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}:{number}: a row must be a JSON object", "mend or remove the line"
                )
            yield row


def _read_json(path: Path) -> Iterator[Row]:
    import ijson

    if _is_jsonl(path):
        yield from _read_jsonl(path)
        return
    with _open(path) as file:
        first = _first_character(file)
    try:
        with _open(path) as file:
            if first == b"[":
                yield from _read_list(path, ijson.items(file, "item", use_float=True))
            else:
                yield from _read_mapping(path, ijson.kvitems(file, "", use_float=True))
    except ijson.JSONError as problem:
        raise DataError(
            f"{path}: not valid JSON: {str(problem).splitlines()[0]}",
            "mend the file or fetch it again",
        ) from None


def _read_list(path: Path, items: Iterator[Any]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise DataError(
                f"{path}: item {number}: a row must be a JSON object", "mend or remove the item"
            )
        yield item


def _read_mapping(path: Path, pairs: Iterator[tuple[str, Any]]) -> Iterator[Row]:
    found = False
    for key, value in pairs:
        rows = [{KEY: key, **value}] if isinstance(value, dict) else []
        if isinstance(value, list):
            rows = [{SPLIT: key, **row} for row in value if isinstance(row, dict)]
        found = found or bool(rows)
        yield from rows
    if not found:
        raise DataError(
            f"{path}: holds no rows",
            "a JSON document must be a list of objects, or a mapping of ids or splits to them",
        )


def _is_jsonl(path: Path) -> bool:
    """Whether a .json file holds one object a line (MedMCQA's release does)."""
    with _open(path) as file:
        lines = [file.readline(1 << 20).strip() for _ in range(2)]
    return all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def _first_character(file: BinaryIO) -> bytes:
    while character := file.read(1):
        if not character.isspace():
            return character
    return b""


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with closing(_lines(path)) as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if None in row:
                    raise DataError(
                        f"{path}:{reader.line_num}: more fields than columns",
                        "quote the field that holds a comma",
                    )
                yield row
        except csv.Error as problem:
            raise DataError(
                f"{path}:{reader.reader.line_num}: not valid CSV: {problem}",
                "check the quotes around this line",
            ) from None


def _read_tsv(path: Path) -> Iterator[Row]:
    return _read_csv(path, delimiter="\t")


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as problem:
        reason = (str(problem).splitlines() or ["?"])[0]
        raise DataError(
            f"{path}: not a valid Parquet file: {reason:.200}", "fetch or copy it again"
        ) from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
