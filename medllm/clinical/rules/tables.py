"""What every table of rules has in common, and how its rows are checked before use."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medllm.clinical.rules.basis import SOURCE_KINDS
from medllm.errors import ConfigError, did_you_mean

Row = Mapping[str, Any]
Faults = Callable[[Row, Mapping[str, Any]], Iterable[str]]
"""What is wrong in a row, given all tables by name (rows by id), to look names up in."""

BASIS = frozenset({"id", "source", "verified", "readings", "note", "reviewed_by", "reviewed_on"})
"""The columns that a row of any table may have."""
_TRUTH = {"verified": bool, "readings": list, "note": str, "reviewed_by": str, "reviewed_on": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A kind of rule: the columns of its rows, those that a row must have, and its own checks.

    The columns in `lists` hold lists of texts, those in `choices` one of some words.
    """

    name: str
    columns: frozenset[str]
    needed: frozenset[str]
    lists: frozenset[str] = frozenset()
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)
    faults: Faults = lambda row, tables: ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and where it was written (`rules/own.yaml:12`)."""

    place: str
    row: Row


def check_rows(
    table: Table, rows: Iterable[Placed], sources: Mapping[str, Row], tables: Mapping[str, Any]
) -> None:
    """Check rows before anything is built of them.

    Raises:
        ConfigError: a row lacks a column, has an unknown one, names a source that is not there,
            or has the id of another row; all that is wrong, each with its place.
    """
    seen: set[str] = set()
    wrong: list[str] = []
    for placed in rows:
        name = str(placed.row.get("id", "a row without id"))
        faults = [*_common_faults(table, placed.row, sources, seen)]
        faults = faults or [*table.faults(placed.row, tables)]
        wrong += [f"{placed.place}: {name}: {fault}" for fault in faults]
        seen.add(name)
    if wrong:
        raise ConfigError("\n".join(wrong), "correct these rows")


def check_sources(sources: Mapping[str, Any], place: str) -> None:
    """Raises ConfigError where a source lacks a title or is of no known kind."""
    wrong = []
    for name, source in sources.items():
        title = source.get("title") if isinstance(source, Mapping) else None
        kind = source.get("kind") if isinstance(source, Mapping) else None
        if not title or kind not in SOURCE_KINDS:
            wrong.append(f"{place}: source '{name}': needs a title and one kind of {SOURCE_KINDS}")
    if wrong:
        raise ConfigError("\n".join(wrong), "say where the rules were read")


def _common_faults(
    table: Table, row: Row, sources: Mapping[str, Row], seen: set[str]
) -> Iterator[str]:
    for column in sorted(table.needed | {"id", "source", "verified"}):
        if row.get(column) in (None, "", []):
            yield f"no {column}"
    yield from unknown_names("column", sorted(row.keys()), table.columns | BASIS)
    if row.get("id") in seen:
        yield "this id is there twice"
    yield from unknown_names("source", filter(None, [row.get("source")]), sources)
    for column, kind in _TRUTH.items():
        if row.get(column) is not None and not isinstance(row[column], kind):
            yield f"{column} must be {kind.__name__}"
    for column in sorted(table.lists & row.keys()):
        value = row[column]
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            yield f"{column} must be a list of texts"
    for column, known in table.choices.items():
        if row.get(column) is not None and row[column] not in (*known,):
            yield f"{column} must be one of {', '.join(known)}"


def unknown_names(what: str, names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """A fault for each name that is not known, with the nearest one that is."""
    for name in names:
        if name not in known:
            yield f"unknown {what} '{name}'; {did_you_mean(name, known)}".rstrip("; ")
