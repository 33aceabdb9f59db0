"""What a rule rests on: its source, and who has checked it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOURCE_KINDS = ("label", "SmPC", "regulator", "guideline", "monograph", "secondary")
BLOCKING_KINDS = frozenset(SOURCE_KINDS[:4])
"""Only rules that rest on one of these may block an answer, unless an operator says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where a rule was read, and whether it was.

    `verified` means that the row was read in the source named, by whoever wrote the rules; a
    clinician's review is `reviewed_by`. `readings` are what sources say that disagree.
    """

    source: str
    source_kind: str
    verified: bool
    year: int | None = None
    readings: tuple[str, ...] = ()
    reviewed_by: str | None = None
    reviewed_on: str | None = None

    def may_block(self, *, block_unverified: bool = False) -> bool:
        """Whether a finding of this rule may withhold an answer."""
        return block_unverified or (self.verified and self.source_kind in BLOCKING_KINDS)


def build_basis(row: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]) -> Basis:
    """The basis of a checked row, whose `source` is a key of `sources`."""
    source = sources[row["source"]]
    return Basis(
        source=source["title"],
        source_kind=source["kind"],
        year=source.get("year"),
        verified=row["verified"],
        readings=tuple(row.get("readings", ())),
        reviewed_by=row.get("reviewed_by"),
        reviewed_on=row.get("reviewed_on"),
    )
