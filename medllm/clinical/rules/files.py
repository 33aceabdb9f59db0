"""Rules as people write them: a folder of YAML files, of ours or of a hospital's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Placed, Row, Table, check_rows, check_sources
from medllm.config.loader import Document, read_yaml
from medllm.errors import ConfigError, did_you_mean

HEAD = ("sources", "reviewed_by", "reviewed_on")
"""The keys of a file that are no tables; who reviewed a file has reviewed each of its rows."""


def read_rules(folder: Path, tables: Sequence[Table], base: Knowledge) -> Knowledge:
    """The rules of `base`, joined by those of every YAML file with `sources:` in a folder.

    Raises:
        ConfigError: a table is unknown, or a row is wrong; file and line of all that is wrong.
    """
    documents = [read_yaml(path) for path in sorted(folder.glob("*.yaml"))]
    documents = [each for each in documents if "sources" in each.data]
    sources = dict(base.sources)
    for document in documents:
        own = document.data["sources"] or {}
        place = document.origin(("sources",)).label
        check_sources(own, place)
        for name in own.keys() & sources.keys():
            if own[name] != sources[name]:  # else rows of others would change theirs
                fix = "give the source another name"
                raise ConfigError(f"{place}: source '{name}' is there already, and another", fix)
        sources |= own
    by_name = {each.name: each for each in tables}
    placed: dict[str, list[Placed]] = {each.name: [] for each in tables}
    for document in documents:
        for name in document.data.keys() - set(HEAD):
            if name not in by_name:
                place = document.origin((name,)).label
                fix = f"{did_you_mean(name, by_name)}known are {', '.join(by_name)}"
                raise ConfigError(f"{place}: no table '{name}'", fix)
            placed[name] += _rows_of(document, name)
    joined = base.joined({name: _by_id(rows) for name, rows in placed.items()}, sources)
    for table in tables:
        check_rows(table, placed[table.name], sources, joined.tables)
    return joined


def _rows_of(document: Document, name: str) -> Iterator[Placed]:
    reviewed = {key: document.data[key] for key in HEAD[1:] if document.data.get(key)}
    for number, row in enumerate(document.data[name] or ()):
        place = document.origin((name, number)).label
        if not isinstance(row, dict):
            raise ConfigError(f"{place}: a row must be a mapping", "write `- {id: …, source: …}`")
        yield Placed(place, {**reviewed, **row})


def _by_id(rows: list[Placed]) -> dict[str, Row]:
    return {str(each.row.get("id")): each.row for each in rows}
