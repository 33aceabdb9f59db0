"""The rules by table and id: those that ship, joined by those of a hospital."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from medllm.clinical.rules.basis import Basis, build_basis
from medllm.clinical.rules.tables import Row

KNOWLEDGE = Path(__file__).parents[1] / "knowledge" / "knowledge.json"
"""The rules as they ship; `scripts/build_knowledge.py` makes it of the YAML beside it."""

Built = TypeVar("Built")


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Checked rows of all tables, and the sources that they name."""

    tables: Mapping[str, Mapping[str, Row]]
    sources: Mapping[str, Row]
    _built: dict[Any, Any] = field(default_factory=dict, repr=False)

    def rows(self, table: str) -> Iterable[Row]:
        """The rows of a table, in order; none where there is no such table."""
        return self.tables.get(table, {}).values()

    def basis(self, row: Row) -> Basis:
        """What a row rests on."""
        return build_basis(row, self.sources)

    def built(self, build: "Callable[[Knowledge], Built]") -> Built:
        """What `build` makes of these rules, made once: an index, a finder of names."""
        if build not in self._built:
            self._built[build] = build(self)
        return cast(Built, self._built[build])

    def joined(
        self, tables: Mapping[str, Mapping[str, Row]], sources: Mapping[str, Row]
    ) -> "Knowledge":
        """These rules and others, which win where an id is in both."""
        names = [*self.tables, *(name for name in tables if name not in self.tables)]
        rows = {name: {**self.tables.get(name, {}), **tables.get(name, {})} for name in names}
        return Knowledge(rows, {**self.sources, **sources})


@cache
def shipped_knowledge() -> Knowledge:
    """The rules that ship with medllm."""
    document = json.loads(KNOWLEDGE.read_text(encoding="utf-8"))
    sources = document.pop("sources")
    document.pop("quantities")  # have no id: their name is it
    tables = {name: {row["id"]: row for row in rows} for name, rows in document.items()}
    return Knowledge(tables, sources)
