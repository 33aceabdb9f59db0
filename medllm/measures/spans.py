"""How well named things are found in texts: spans of characters, exact or overlapping, and names.

Precision, recall and F1 over all documents, with intervals over the documents.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from medllm.data.dedup import UNSPACED
from medllm.measures.intervals import Estimate, Groups, estimate_part

Spans = set[tuple[int, int]]
"""Where things begin and end in a text."""
PLAIN = str.maketrans("‐‑‒–—−’‘´`", 6 * "-" + 4 * "'")
"""Hyphens and apostrophes that models write for a text's own."""
_SPACED = rf"[^\W{UNSPACED.pattern[1:-1]}]"
"""A letter beside which no other word stands: those of Chinese stand beside each other."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a document holds and what was found in it."""

    wanted: int = 0
    """Things that are there."""
    given: int = 0
    """Things that were found, right or wrong."""
    hits: int = 0
    """Those of `given` that are right."""
    reached: int = 0
    """Those of `wanted` that were found."""

    def __add__(self, other: "Counts") -> "Counts":
        """Both together."""
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


def count_exact(found: Spans, wanted: Spans) -> Counts:
    """Spans that begin and end alike."""
    same = len(found & wanted)
    return Counts(len(wanted), len(found), same, same)


def count_overlapping(found: Spans, wanted: Spans) -> Counts:
    """Spans that share a character with one of the others."""
    hits, reached = len(overlap(found, wanted)), len(overlap(wanted, found))
    return Counts(len(wanted), len(found), hits, reached)


def overlap(spans: Spans, others: Spans) -> Spans:
    """The spans that share a character with one of the others."""
    return {a for a in spans if any(a[0] < b[1] and b[0] < a[1] for b in others)}


def estimate_f1(counts: Sequence[Counts], groups: Groups | None = None) -> dict[str, Estimate]:
    """Precision, recall and F1 of some documents; of nothing found, or nothing there, no such one.

    Where spans overlap, F1 is of the shares of both sides: (hits + reached) / (given + wanted).
    """
    parts = {
        "precision": [(each.hits, each.given) for each in counts],
        "recall": [(each.reached, each.wanted) for each in counts],
        "f1": [(each.hits + each.reached, each.given + each.wanted) for each in counts],
    }
    found = {name: _ratio(pairs, groups) for name, pairs in parts.items()}
    return {name: each for name, each in found.items() if each}


def _ratio(pairs: Sequence[tuple[int, int]], groups: Groups | None) -> Estimate | None:
    """Of the documents that have something to count, so that no draw of them is without any."""
    kept = [at for at, (_, of) in enumerate(pairs) if of]
    if not kept:
        return None
    own = [groups[at] for at in kept] if groups is not None else None
    return estimate_part([pairs[at][0] for at in kept], [pairs[at][1] for at in kept], own)


def plain(text: str) -> str:
    """The text with plain hyphens and apostrophes, each character in its place."""
    return text.translate(PLAIN)


def find_mentions(names: Iterable[str], text: str) -> tuple[Spans, list[str]]:
    """Where names stand in a text as whole words, in any case, and those that stand nowhere.

    Of names within each other the longest counts: "renal failure" is not found in "acute renal
    failure" where both are named and it stands nowhere else.
    """
    taken: Spans = set()
    missing = []
    text = plain(text)
    for name in sorted(set(names), key=lambda each: (-len(each), each)):
        words = r"\s+".join(map(re.escape, plain(name).split()))
        whole = rf"(?<!{_SPACED}){words}(?!{_SPACED})"
        found = {match.span() for match in re.finditer(whole, text, re.I)}
        taken |= {span for span in found if not overlap({span}, taken)}
        if not found:
            missing.append(name)
    return taken, missing
