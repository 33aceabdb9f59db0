"""Texts that no quantizer has seen, to judge quantized models by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.digest import digest_text
from medllm.artifacts.lineage import Input, open_input
from medllm.clinical.terms import count_texts, find_terms, vocabulary
from medllm.data.example import read_jsonl
from medllm.data.split import rank
from medllm.errors import ArtifactError, DataError
from medllm.quantize.config import QuantizeConfig

MEDICAL, GENERAL = "medical", "general"
LONGEST_BOS = 24
"""Characters; DeepSeek's `<｜begin▁of▁sentence｜>` has 21."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Holdouts:
    """Texts held out of all calibration, and how often medical terms occur in them."""

    source: Input
    texts: Mapping[str, Sequence[Row]]
    """By kind: medical, general."""
    term_texts: Mapping[str, int]
    """For each term the number of medical holdout texts with it, of all that there are."""

    @cached_property
    def identity(self) -> str:
        """A digest of the texts, in their order."""
        rows = [(kind, row["id"], row["text"]) for kind, rows in self.texts.items() for row in rows]
        return digest_text(repr(rows))


def open_holdouts(config: QuantizeConfig, calibration: Input | None) -> Holdouts | None:
    """The holdouts that are named, else the calibration set's; None, and said, without any.

    Raises:
        ArtifactError: the named folder is missing, altered, or has none.
        DataError: their rows are none that `medllm calibrate` writes, or calibrate too.
    """
    if not config.quality:
        return None
    source = calibration
    if config.holdouts:
        source = open_input(config.holdouts, ("calibration",), "holdouts")
    if source is None:
        console.notice("quantize: quality is not measured: no calibration set is named")
        return None
    paths = {kind: source.path / f"holdout_{kind}.jsonl" for kind in (MEDICAL, GENERAL)}
    rows = {kind: _read_rows(path) for kind, path in paths.items() if path.is_file()}
    if not any(rows.values()):
        if config.holdouts:
            fix = "name a folder that `medllm calibrate` wrote with holdouts"
            raise ArtifactError(f"{source.path} has no holdouts", fix)
        console.notice(f"quantize: quality is not measured: {source.path} has no holdouts")
        return None
    if calibration and source is not calibration:
        _check_apart(rows, calibration.path)
    return _choose(source, rows, config)


def _check_apart(rows: Mapping[str, list[Row]], calibration: Path) -> None:
    """Raise DataError where the same text calibrates and judges: that would flatter."""
    used = [str(row.get("text")) for row in read_jsonl(calibration / "calibration.jsonl")]
    held_out = [row["text"] for found in rows.values() for row in found]
    both = sum(any(_is_same(text, other) for other in used) for text in held_out)
    if both:
        fix = "draw both with the same `split:`, or leave out quantize.holdouts"
        raise DataError(f"{calibration}: {both} of its texts are held out to judge by", fix)


def _is_same(text: str, other: str) -> bool:
    """Whether two texts are the same; medllm 0.1 wrote a text with its BOS, as in `<s>…`."""
    more = abs(len(text) - len(other))
    return more <= LONGEST_BOS and (text.endswith(other) or other.endswith(text))


def _choose(source: Input, rows: Mapping[str, list[Row]], config: QuantizeConfig) -> Holdouts:
    """At most `quality_texts` of each kind, of all datasets: a holdout stands in their order."""
    medical = rows.get(MEDICAL, [])
    counts = count_texts(find_terms(row["text"], vocabulary()) for row in medical)
    chosen = {
        kind: sorted(found, key=lambda row: rank(str(row["id"]), config.seed))[
            : config.quality_texts
        ]
        for kind, found in rows.items()
    }
    return Holdouts(source, chosen, counts)


def _read_rows(path: Path) -> list[Row]:
    rows = list(read_jsonl(path))
    if not all(isinstance(row.get("text"), str) and "id" in row for row in rows):
        fix = "`medllm calibrate` writes such rows"
        raise DataError(f"{path}: a row has no text or no id", fix)
    return rows
