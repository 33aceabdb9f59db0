"""Filled sheets → ratings, with every way told in which a sheet may have come to harm."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm.data.readers.csv_form import restored
from medllm.data.readers.rows import MARKS, read_rows
from medllm.errors import DataError
from medllm.evaluate.review_sheets.scales import (
    ITEM,
    SCALES,
    TIE,
    preference_column,
    rating_columns,
    text_columns,
)
from medllm.evaluate.review_sheets.sheet import Key, digest_texts

NAMED = 3
"""Rows that an error names."""
ALIKE_BY_CHANCE = 5
"""Below so many items two people may well say the same of all."""


@dataclass(frozen=True)
class Rated:
    """What one person says of some items; by what the answers are called on the sheet."""

    rater: str
    """The name of the file."""
    ratings: Mapping[str, Mapping[str, int]]
    """By code and column: whole numbers."""
    preferred: Mapping[str, str | None]
    """By code: a letter; None of a tie."""


def read_sheets(files: Sequence[Path], key: Key) -> list[Rated]:
    """What each person says.

    Raises:
        DataError: a file is damaged, filled in half, of another sheet, or the same as another.
    """
    found = [_read(file, key) for file in files]
    names = Counter(each.rater for each in found)
    for at, one in enumerate(found):
        if names[one.rater] > 1:
            raise DataError(f"two files are called {one.rater}", "name each for who filled it in")
        for other in found[:at]:
            same = (one.ratings, one.preferred) == (other.ratings, other.preferred)
            if same and len(one.ratings) >= ALIKE_BY_CHANCE:
                message = f"{other.rater} and {one.rater} hold the same ratings: one is a copy"
                raise DataError(message, "name each person's own file once")
    return found


def _read(file: Path, key: Key) -> Rated:
    rows = list(_rows(file, key))
    if not rows:
        raise DataError(f"{file}: nothing is rated in it", "fill in the sheet, and save it")
    twice = [code for code, times in Counter(row[ITEM] for _, row in rows).items() if times > 1]
    if twice:
        raise DataError(f"{file}: {_named(twice)} stands twice", "leave one row of each item")
    wanted = rating_columns(key.letters)
    half = [row[ITEM] for _, row in rows if not all(row[column] for column in wanted)]
    if half:
        fix = "complete the rows; delete a row that is not rated at all"
        raise DataError(f"{file}: {_named(half)} {_is(half)} rated in part", fix)
    return Rated(
        rater=file.stem,
        ratings={row[ITEM]: _numbers(f"{file}: {row[ITEM]}", row, key.letters) for _, row in rows},
        preferred={row[ITEM]: _letter(f"{file}: {row[ITEM]}", row, key.letters) for _, row in rows},
    )


def _rows(file: Path, key: Key) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows in which something is filled in, checked to be those of the sheet."""
    wanted = [ITEM, *rating_columns(key.letters)]
    for number, raw in enumerate(read_rows(file), 2):
        row = {name: restored(str(cell or "")).strip() for name, cell in raw.items()
               if name not in MARKS}  # fmt: skip
        if lacking := [name for name in wanted if name not in row]:
            fix = "fill in the sheet as it was made: its first line stays"
            raise DataError(f"{file}: it has no column '{lacking[0]}'", fix)
        if any(row[name] for name in wanted[1:]):
            _check_is_of_sheet(f"{file}:{number}", row, key)
            yield number, row


def _check_is_of_sheet(place: str, row: Mapping[str, str], key: Key) -> None:
    """Raise DataError for a row that is not in the sheet, or whose texts are another's."""
    item = key.items.get(row[ITEM])
    if item is None:
        told = f"no item '{row[ITEM]:.20}'" if row[ITEM] else "a row without its item"
        fix = "name the folder of the sheet that was filled in; its first column stays"
        raise DataError(f"{place}: {told} in this sheet", fix)
    texts = [row.get(column) for column in text_columns(key.letters)]
    known = [text for text in texts if text is not None]
    if known and (len(known) < len(texts) or digest_texts(known) != item["texts"]):
        message = f"{place}: the texts of {row[ITEM]} are not those that were to be rated"
        fix = "sort whole rows, not columns alone, and leave the texts as they are"
        raise DataError(message, fix)


def _numbers(place: str, row: Mapping[str, str], letters: str) -> dict[str, int]:
    found = {}
    for letter in letters:
        for scale in SCALES:
            column = scale.column(letter)
            number = _whole(row[column])
            if number is None or not scale.least <= number <= scale.most:
                message = f"{place}: {column} is '{row[column]:.20}'"
                raise DataError(message, f"a whole number from {scale.least} to {scale.most}")
            found[column] = number
    return found


def _whole(cell: str) -> int | None:
    """A whole number, as a spreadsheet may write it: 4, 4.0, 4,0."""
    try:
        number = float(cell.replace(",", "."))
        return int(number) if number.is_integer() else None
    except (ValueError, OverflowError):
        return None


def _letter(place: str, row: Mapping[str, Any], letters: str) -> str | None:
    column = preference_column(letters)
    said = row[column].upper()
    if said == TIE.upper():
        return None
    if len(said) != 1 or said not in letters:
        message = f"{place}: {column} is '{row[column]:.20}'"
        raise DataError(message, f"{', '.join(letters)}, or {TIE}")
    return str(said)


def _named(codes: Sequence[str]) -> str:
    more = f" and {len(codes) - NAMED} others" if len(codes) > NAMED else ""
    return ", ".join(codes[:NAMED]) + more


def _is(codes: Sequence[str]) -> str:
    return "is" if len(codes) == 1 else "are"
