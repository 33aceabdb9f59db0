"""The proof beside a quantized model: what it lost against its parent, on text held out."""

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medllm import console
from medllm.artifacts.lineage import Input
from medllm.artifacts.manifest import write_atomically
from medllm.clinical.look_alikes import look_alikes
from medllm.clinical.terms import count_texts, find_terms, vocabulary
from medllm.data.example import read_jsonl
from medllm.data.split import rank
from medllm.engines.base import Engine, LogProbs
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, DataError
from medllm.measures.divergence import Compared, compare_document, summarize_divergence
from medllm.measures.probes import (
    Occurrence,
    find_occurrences,
    margin_change,
    score_look_alikes,
    summarize_terms,
)
from medllm.models.chat import encode_text
from medllm.models.hardware import count_parameters
from medllm.models.load import ModelRef
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.quality_report import main_figures, render_quality, show_quality

MEDICAL, GENERAL = "medical", "general"
DIGITS = 6
"""Significant digits of what is written down: the last bits differ between machines."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Holdouts:
    """Texts that no calibration has seen, to compare on, and how often terms occur in them."""

    texts: Mapping[str, Sequence[Row]]
    """By kind: medical, general."""
    term_texts: Mapping[str, int]
    """For each term the number of medical holdout texts with it, of all that there are."""


def open_holdouts(config: QuantizeConfig, calibration: Input | None) -> Holdouts | None:
    """The holdouts of a calibration set; None, and said, where there is nothing to compare on."""
    if not config.quality:
        return None
    if calibration is None:
        console.notice("quantize: quality is not measured: no calibration set is named")
        return None
    paths = {kind: calibration.path / f"holdout_{kind}.jsonl" for kind in (MEDICAL, GENERAL)}
    rows = {kind: _read_rows(path) for kind, path in paths.items() if path.is_file()}
    if not any(rows.values()):
        console.notice(f"quantize: quality is not measured: {calibration.path} has no holdouts")
        return None
    medical = rows.get(MEDICAL, [])
    counts = count_texts(find_terms(row["text"], vocabulary()) for row in medical)
    chosen = {
        # a holdout stands in order of its datasets, and all of them are meant to be heard
        kind: sorted(found, key=lambda row: rank(str(row["id"]), config.seed))[
            : config.quality_texts
        ]
        for kind, found in rows.items()
    }
    return Holdouts(chosen, counts)


def _read_rows(path: Path) -> list[Row]:
    rows = list(read_jsonl(path))
    if not all(isinstance(row.get("text"), str) and "id" in row for row in rows):
        fix = "`medllm calibrate` writes such rows"
        raise DataError(f"{path}: a row has no text or no id", fix)
    return rows


def measure_quality(parent: ModelRef, weights: Path, holdouts: Holdouts) -> dict[str, Any]:
    """The main figures; writes `quality.json` and `quality.html` beside the quantized weights.

    Both models are in memory at the same time, and the distributions of one block of tokens.

    Raises:
        ArtifactError: the quantized model cannot be loaded, or gives no numbers.
    """
    quantized = replace(parent, path=weights, manifest=None)
    folder = weights.parent if quantized.is_gguf else weights
    ours = open_model(parent)
    began = time.monotonic()
    theirs = open_model(quantized)
    timed = _Timed(theirs, load_seconds=time.monotonic() - began)
    compared, occurrences = _compare(ours, timed, holdouts)
    _check_finite(compared)
    quality = _summarize(compared, occurrences, holdouts) | _score_names(ours, theirs)
    parameters = count_parameters(parent.path)
    bits = 8 * quantized.weight_bytes / parameters if parameters else None
    quality |= {"bytes": quantized.weight_bytes, "parent_bytes": parent.weight_bytes}
    quality["bits_per_weight"] = bits
    theirs.close()
    ours.close()
    quality = _rounded(quality)
    write_atomically(folder / "quality.json", json.dumps(quality, indent=1) + "\n")
    course = timed.figures()
    divergences = {kind: [_mean(each) for each in found] for kind, found in compared.items()}
    page = render_quality(quality, course, divergences)
    write_atomically(folder / "quality.html", page)
    show_quality(quality, course)
    return main_figures(quality) | course


def _compare(
    parent: Engine, quantized: "_Timed", holdouts: Holdouts
) -> tuple[dict[str, list[Compared]], list[Occurrence]]:
    """Both models on every text, and the medical terms in the medical ones."""
    room = min(parent.context_length, quantized.engine.context_length)
    compared: dict[str, list[Compared]] = {}
    occurrences: list[Occurrence] = []
    total = sum(map(len, holdouts.texts.values()))
    with console.progress("quantize: quality", total) as advance:
        for kind, rows in holdouts.texts.items():
            compared[kind] = []
            for number, row in enumerate(rows):
                name, text = f"{kind}/{number}", row["text"]
                ids = encode_text(parent, text)[:room]
                advance(1)
                if len(ids) < 2:
                    continue
                compared[kind].append(compare_document(parent, quantized, name, ids))
                if kind == MEDICAL:
                    terms = holdouts.term_texts
                    occurrences += find_occurrences(parent, name, text, ids, terms)
    return {kind: found for kind, found in compared.items() if found}, occurrences


def _check_finite(compared: Mapping[str, Sequence[Compared]]) -> None:
    """Raise ArtifactError where rounding broke the model: NaN would make every figure NaN."""
    every = (document for found in compared.values() for document in found)
    if not all(np.isfinite(document.divergence).all() for document in every):
        message = "the quantized model is broken: for some tokens it gives no probabilities (NaN)"
        raise ArtifactError(message, "use more bits, or another format")


def _summarize(
    compared: Mapping[str, Sequence[Compared]],
    occurrences: Sequence[Occurrence],
    holdouts: Holdouts,
) -> dict[str, Any]:
    every = [document for found in compared.values() for document in found]
    groups = {**compared, "all": every} if every else {}
    terms = summarize_terms(compared.get(MEDICAL, ()), occurrences, holdouts.term_texts)
    return {
        "texts": {kind: asdict(summarize_divergence(found)) for kind, found in groups.items()},
        "terms": {bucket: asdict(found) for bucket, found in terms.items()},
    }


def _score_names(parent: Engine, quantized: Engine) -> dict[str, Any]:
    """Look-alike names before and after."""
    pairs = look_alikes()
    before = score_look_alikes(parent, parent, pairs)
    after = score_look_alikes(parent, quantized, pairs)
    scores = {"parent": asdict(before), "quantized": asdict(after)}
    return {"look_alikes": {**scores, "change": asdict(margin_change(before, after))}}


def _mean(document: Compared) -> float:
    return float(document.divergence.mean())


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


@dataclass
class _Timed:
    """A loaded model that is compared, with what that takes."""

    engine: Engine
    load_seconds: float
    seconds: float = 0.0
    tokens: int = 0

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """As the engine's."""
        self.tokens += len(ids)
        blocks = self.engine.log_probs(ids)
        while True:
            began = time.monotonic()
            block = next(blocks, None)
            self.seconds += time.monotonic() - began
            if block is None:
                return
            yield block

    def figures(self) -> dict[str, float]:
        """What depends on this machine and this moment."""
        return {
            "load_seconds": self.load_seconds,
            "tokens_per_second": self.tokens / max(self.seconds, 1e-9),
            "peak_memory_gib": peak_memory_gib(),
        }


def peak_memory_gib() -> float:
    """The most memory that this process has had: quantizing and comparing, both models loaded."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
