"""Values of raw rows as text; what is no text is never made one by `str()`."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from unicodedata import normalize
from uuid import UUID

from medllm.data.left_out import LeftOut, NotText

NUL = re.compile(r"(?P<beside>(?<=\s)\x00+|\x00+(?=\s))|\x00+")
PART = {"text", "type", "annotations", "cache_control"}
"""The keys of OpenAI's content part of type text."""
SPAN = {"text", "answer_start", "answer_end"}
"""The keys of SQuAD's answer, which is a span of its context."""

NULLS = frozenset({"NaN", "nan", "NULL", "<NA>", "#N/A", "NaT", r"\N"})
"""What pandas, SQL and Excel write into a table where nothing is. `NA`, `None` and `nil` are texts:
sodium, and what is known of allergies."""
LONGEST_NULL = 6
"""Characters, with a blank or two around."""
DEEPEST = 20
"""Levels of lists and mappings in metadata."""


def is_missing(value: Any) -> bool:
    """Whether a value is none: None, and what pandas writes for it, NaN and NaT."""
    return value is None or bool(value != value)


def clean(value: Any) -> str:
    """A value as text that UTF-8 can hold; "" for a missing one, also as tables write it.

    Numbers and booleans are spelt as JSON spells them. A list of one text is that text, content
    parts of type text are joined, and of SQuAD's answers the first counts. NUL becomes a blank, not
    nothing: else `1<NUL>2 mg` would become 12 mg. Half of a surrogate pair becomes "?".

    Raises:
        NotText: it is anything else.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else _spelt(value)
    if len(text) <= LONGEST_NULL and text.strip() in NULLS:
        return ""
    if "\x00" in text:
        text = NUL.sub(lambda nul: "" if nul["beside"] is not None else " ", text)
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()


def text_of(value: Any) -> str:
    """`clean`, without white space around it."""
    return clean(value).strip()


def _spelt(value: Any) -> str:
    if isinstance(value, int | float):  # the commonest, first
        return _scalar(value)
    if isinstance(value, list | tuple):
        return _text_of_list(value)
    return _text_of_mapping(value) if isinstance(value, Mapping) else _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        spelt = repr(float(value))  # never 1e-05: a dose is written out
        return format(Decimal(spelt), "f") if "e" in spelt else spelt
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, int | date | time | timedelta | UUID):
        return str(value)
    if isinstance(value, bytes):  # Parquet's columns of bytes that nobody declared to be text
        return _decoded(value)
    raise NotText


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise NotText from None


def _text_of_list(values: Sequence[Any]) -> str:
    mappings = [value for value in values if isinstance(value, Mapping)]
    if len(values) == 1:
        return _text_of_mapping(mappings[0]) if mappings else _scalar(values[0])
    if values and len(mappings) == len(values):
        if all(one.get("type") == "text" for one in mappings):
            return "".join(map(_text_of_mapping, mappings))
        if all("answer_start" in one for one in mappings):
            return _text_of_mapping(mappings[0])
    if values:
        raise NotText
    return ""


def _text_of_mapping(value: Mapping[str, Any]) -> str:
    """The text of a content part, or the first of SQuAD's answers."""
    is_part = value.keys() <= PART and value.get("type", "text") == "text"
    if "text" not in value or not (is_part or value.keys() <= SPAN):
        raise NotText
    text = value["text"]
    if isinstance(text, list | tuple):
        text = text[0] if text else ""
    return _scalar(text)


def paragraphs_of(value: Any) -> list[str]:
    """The paragraphs of a text: a list of them, or one."""
    values = value if isinstance(value, list | tuple) else [value]
    return [text for one in values if (text := text_of(one))]


@lru_cache(maxsize=256)
def columns_of(names: tuple[Any, ...]) -> dict[str, Any]:
    """The columns of a row by their names in lower case, composed, without white space around."""
    return {normalize("NFC", str(name)).strip().lower(): name for name in names}


def first_of(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The text of the first of the columns that holds some."""
    return next((text for name in names if (text := text_of(row.get(name)))), "")


def image_choices(row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, ...]]:
    """The paths in each of the columns that holds some: one, or a list of them.

    Raises:
        LeftOut: there are images that are no files, or a list lacks one.
    """
    columns = [row[name] for name in names if row.get(name) is not None]
    if not columns:
        return []
    listed = [value if isinstance(value, list | tuple) else [value] for value in columns]
    found = [tuple(map(_path_of, images)) for images in listed]
    whole = [paths for paths in found if any(paths)]
    if not whole and any(_is_no_file(image) for images in listed for image in images):
        raise LeftOut("an image that is no file")
    if not all(map(all, whole)):
        raise LeftOut("missing image")
    return whole


def images_of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The paths in the first of the columns that holds some."""
    return next(iter(image_choices(row, names)), ())


def _path_of(image: Any) -> str:
    """The path of an image; "" where `datasets` keeps its bytes beside the name it once had."""
    if isinstance(image, Mapping):
        return "" if image.get("bytes") else text_of(image.get("path"))
    return text_of(image)


def _is_no_file(image: Any) -> bool:
    return isinstance(image, Mapping) and any(image.values()) and not _path_of(image)


def known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that hold something, as JSON can hold it."""
    plain = ((name, _plain(value)) for name, value in metadata.items())
    return {name: value for name, value in plain if value not in (None, "")}


def _plain(value: Any, depth: int = 0) -> Any:
    """A value without NaN and bytes; what is infinite by its name."""
    if isinstance(value, str):
        return value
    if depth > DEEPEST:
        raise LeftOut("nested too deeply")
    if isinstance(value, Mapping):
        return {str(name): _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if is_missing(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
