"""CSV and TSV as spreadsheets write them anywhere, of whatever delimiter and encoding.

Nothing in a file says either, so both are told from its content, and what is not comma and UTF-8 is
said and stands in the manifest.
"""

import csv
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_LE
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple, TextIO

from medllm import console
from medllm.data.readers.files import (
    Source,
    check_content,
    find_undecodable,
    kind_of,
    letters_in_utf_8,
    open_bytes,
    open_text,
    read_lines,
    undecodable,
)
from medllm.errors import DataError

LONGEST_FIELD = 1 << 24
"""Characters. A quote that is never closed would else swallow the rest of a file."""
SAMPLE = 1 << 16
"""Characters by which the delimiter is told."""
SHOWN = 24
"""So many of a file's other letters are shown: who reads them sees a wrong encoding at once."""
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}
"""What may part the fields of a file by its ending, the likeliest first."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')
"""The first line by which Excel tells the delimiter."""
NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


class Form(NamedTuple):
    """What a file of fields does not say of itself."""

    encoding: str = "utf-8"
    delimiter: str = ","

    @property
    def words(self) -> str:
        """The form for people."""
        return f"{self.encoding}, fields parted by {NAMES.get(self.delimiter, self.delimiter)}"


def read_delimited(
    path: Source, kind: str, header: tuple[str, ...] = (), encoding: str | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a CSV or TSV file.

    Raises:
        DataError: damaged, or of an encoding that cannot be told; names the line.
    """
    csv.field_size_limit(LONGEST_FIELD)
    form = form_of(path, kind, header, encoding)
    if form != Form(delimiter=DELIMITERS[kind][0]):
        _announce(path, form)
    with open_text(path, newline="", encoding=form.encoding) as file:
        yield from _read(path, file, form.delimiter, header)


def _read(
    path: Source, file: TextIO, delimiter: str, header: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    content, skipped = _without_separator_line(read_lines(path, file))
    lines = csv.reader(content, delimiter=delimiter, strict=True)
    ended = skipped  # the line on which the last good row ends
    short, first_short = 0, 0
    try:
        names, rows = _head(path, lines, header)
        width, ended = len(names), lines.line_num + skipped
        for fields in rows:
            ended = lines.line_num + skipped
            if len(fields) == width:
                yield dict(zip(names, fields, strict=True))
            elif len(fields) > width:
                named = NAMES.get(delimiter, f"'{delimiter}'")
                raise DataError(
                    f"{path}:{ended}: more fields than columns",
                    f"quote the field that holds {named}",
                )
            elif fields:  # what is missing is None; a blank line is no row
                short, first_short = short + 1, first_short or ended
                yield dict(zip_longest(names, fields))
    except csv.Error as problem:
        raise DataError(
            f"{path}:{ended + 1}: not valid CSV: {problem}",
            "check the quotes of the row that begins on this line",
        ) from None
    if short:
        _announce_short(str(path), short, first_short)


def _without_separator_line(lines: Iterator[str]) -> tuple[Iterator[str], int]:
    """The lines below Excel's `sep=;`, and how many that leaves out."""
    first = next(lines, "")
    if SEPARATOR_LINE.fullmatch(first):
        return lines, 1
    return chain([first] if first else [], lines), 0


def _head(
    path: Source, lines: Iterator[list[str]], header: tuple[str, ...]
) -> tuple[list[str], Iterator[list[str]]]:
    """The names of the columns, and the rows below them; a first line may be a row already."""
    first = next(lines, [])
    composed = [unicodedata.normalize("NFC", name) for name in first]
    names = [name.strip() for name in composed]
    if header and tuple(map(str.lower, names)) != header:
        return list(header), chain([first] if first else [], lines)
    if twice := {name for name, times in Counter(names).items() if name and times > 1}:
        places = [number for number, name in enumerate(names, 1) if name == min(twice)]
        where = f"{path}:1: columns {places[0]} and {places[1]}"  # a name may be a value of a row
        raise DataError(f"{where} have the same name", "rename one of them")
    blank = {number for number, name in enumerate(names) if not name}
    unnamed = blank - {min(blank, default=0)}  # of several none may hide another
    return [f"column {n + 1}" if n in unnamed else name for n, name in enumerate(composed)], lines


def form_of(
    path: Source, kind: str, header: tuple[str, ...] = (), encoding: str | None = None
) -> Form:
    """The encoding and the delimiter of a file.

    Raises:
        DataError: its encoding cannot be told.
    """
    encoding = encoding or find_encoding(path)
    with open_text(path, newline="", encoding=encoding) as file:
        sample = file.read(SAMPLE)
    if found := SEPARATOR_LINE.match(sample):
        return Form(encoding, found[1])
    return Form(encoding, find_delimiter(sample, DELIMITERS[kind], header))


def find_delimiter(sample: str, candidates: str, header: Sequence[str] = ()) -> str:
    """Which of some characters parts the fields: the one that gives most rows the same width."""
    whole = sample[: sample.rfind("\n") + 1] or sample
    first = candidates[0]
    scores = {one: _score(whole, one, len(header)) for one in candidates if one in whole}
    best = max(scores, key=lambda one: scores[one], default=first)
    return best if scores.get(best, 0) > scores.get(first, 0) else first


def _score(sample: str, delimiter: str, width: int) -> float:
    """The share of rows that are as wide as the header; 0 where that is a single column."""
    reader = csv.reader(sample.splitlines(keepends=True), delimiter=delimiter)
    try:
        widths = [len(row) for row in islice(reader, 200) if row]
    except csv.Error:
        return 0
    width = width or (widths[0] if widths else 0)
    return Counter(widths)[width] / len(widths) if widths and width > 1 else 0


def find_encoding(path: Source) -> str:
    """The encoding of a text file: UTF-8, UTF-16 or 32 by its mark, or Windows' Western one.

    Raises:
        DataError: it is none of these.
    """
    with open_bytes(path) as file:
        head = file.read(SAMPLE)
    if head.startswith(BOM_UTF32_LE):  # it begins as UTF-16's does
        return "utf-32"
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    check_content(path, head)
    _check_is_text(path, head)
    if letters_in_utf_8(path) is not None:
        return "utf-8"
    _, is_mixed, encoding = find_undecodable(path)
    if is_mixed or not encoding:
        raise undecodable(path)
    return encoding


_JAPANESE = re.compile(rb"\x1b\$[@B(]")
"""The escapes of ISO-2022-JP."""


def _check_is_text(path: Source, head: bytes) -> None:
    """Raise DataError for bytes that would pass for UTF-8: UTF-16 without its mark, ISO-2022."""
    is_wide = 2 * max(head.count(b"\n\0"), head.count(b"\0\n")) > head.count(b"\n")
    if is_wide or _JAPANESE.search(head):
        high_first = head[::2].count(0) > head[1::2].count(0)
        encoding = f"utf-16-{'be' if high_first else 'le'}" if is_wide else "iso2022_jp"
        raise DataError(
            f"{path}: not UTF-8 text",
            f"save it as UTF-8, or say `encoding: {encoding}` in a dataset.yaml beside it",
        )


@cache
def _announce(path: Source, form: Form) -> None:
    """Say how a file is read, with the letters that another encoding would make others of."""
    hint = ""
    if not form.encoding.startswith("utf"):
        with open_text(path, newline="", encoding=form.encoding) as file:
            counts = Counter(each for each in file.read(SAMPLE) if each > "\x7f")
        letters = "".join(letter for letter, _ in counts.most_common(SHOWN))
        hint = (f" (its other letters: {letters}); where they are wrong, `encoding: NAME` in "
                "a dataset.yaml beside it names another")  # fmt: skip
    console.notice(f"{path}: read as {form.words}{hint}")


@cache
def _announce_short(path: str, count: int, line: int) -> None:
    rows = console.counted(count, "row")
    console.notice(
        f"{path}: {rows} with fewer fields than columns, the first on line {line}: the rest is "
        "taken as empty. Where it goes on with the text of the line before, it was cut: quote it"
    )


def unusual_form(path: Source, header: tuple[str, ...], encoding: str | None) -> str | None:
    """How a CSV or TSV file is read, where that is not comma or tab and UTF-8."""
    kind = kind_of(path)
    if kind not in DELIMITERS:
        return None
    form = form_of(path, kind, header, encoding)
    return form.words if form != Form(delimiter=DELIMITERS[kind][0]) else None
