"""The proof beside a quantized model: what it lost against its parent, on text held out."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.clinical.look_alikes import look_alikes
from medllm.engines.base import Expects, Scores, require
from medllm.engines.open import open_model
from medllm.errors import ArtifactError
from medllm.measures.cost import measure_cost
from medllm.measures.divergence import Compared, compare_document, summarize_divergence
from medllm.measures.probes import (
    LookAlikeScores,
    Occurrence,
    find_occurrences,
    margin_change,
    score_look_alikes,
    summarize_terms,
)
from medllm.models.hardware import count_parameters
from medllm.quantize.config import Format
from medllm.quantize.holdouts import MEDICAL
from medllm.quantize.quality.advice import advise
from medllm.quantize.quality.reference import Parent, Reference
from medllm.quantize.quality.report import Subject, build_page, main_figures, show_quality
from medllm.quantize.work import Made

DIGITS = 6
"""Significant digits of what is written down: the last bits differ between machines."""

ByKind = Mapping[str, Sequence[Compared]]


def measure_quality(
    reference: Reference, made: Made, choice: Format, subject: Subject
) -> dict[str, Any]:
    """The main figures; writes `quality.json` and `quality.html` beside the quantized weights.

    In memory at a time: the distributions of one block of tokens, and one model, or both where
    the parent's pass is not kept.

    Raises:
        ArtifactError: the quantized model cannot be loaded, or gives no numbers.
        SetupError: a new process cannot load it.
    """
    quantized = replace(reference.model, path=made.weights, manifest=None)
    folder = made.weights.parent if quantized.is_gguf else made.weights
    terms = reference.holdouts.term_texts
    with reference.opened() as parent:
        with closing(
            open_model(quantized, n_ctx=parent.context_length, dtype=reference.dtype)
        ) as engine:
            scoring = require(engine, Scores, "quantize")
            compared = _compare(parent, require(engine, Expects, "quantize"))
            _check_finite(compared)
            after = score_look_alikes(parent.template, scoring, look_alikes())
        occurrences = _find_terms(parent, terms)
    quality = _summarize(compared, occurrences, terms) | _names(parent.names, after)
    parameters = count_parameters(reference.model.path)
    size = quantized.weight_bytes
    quality |= {"bytes": size, "parent_bytes": reference.model.weight_bytes}
    quality["bits_per_weight"] = 8 * size / parameters if parameters else None
    quality["layers"] = _worst_first(made.layer_errors)
    quality["advice"] = advise(quality, choice, made.texts)
    quality = _rounded(quality)
    write_json(folder / "quality.json", quality)
    texts = [document.ids for document in parent.documents]
    costs = measure_cost(made.weights, texts, parent.context_length, reference.dtype)
    build_page(quality, costs, subject).write(folder / "quality.html")
    show_quality(quality)
    return main_figures(quality) | costs


def _compare(parent: Parent, quantized: Expects) -> dict[str, list[Compared]]:
    """Both models on every text, by kind of text."""
    compared: dict[str, list[Compared]] = {}
    with console.progress("quantize: quality", len(parent.documents)) as advance:
        for document in parent.documents:
            found = compare_document(parent.expecting, quantized, document.name, document.ids)
            compared.setdefault(document.kind, []).append(found)
            advance(1)
    return compared


def _check_finite(compared: ByKind) -> None:
    """Raise ArtifactError where quantizing broke the model: NaN would make every figure NaN."""
    every = (document for found in compared.values() for document in found)
    if not all(np.isfinite(document.divergence).all() for document in every):
        message = "the quantized model is broken: for some tokens it gives no probabilities (NaN)"
        raise ArtifactError(message, "use more bits, or another format")


def _find_terms(parent: Parent, terms: Mapping[str, int]) -> list[Occurrence]:
    """The medical terms of the medical texts."""
    return [
        occurrence
        for document in parent.documents
        if document.kind == MEDICAL
        for occurrence in find_occurrences(
            parent.template, document.name, document.text, document.ids, terms
        )
    ]


def _summarize(
    compared: ByKind, occurrences: Sequence[Occurrence], terms: Mapping[str, int]
) -> dict[str, Any]:
    every = [document for found in compared.values() for document in found]
    groups = {**compared, "all": every} if every else {}
    found = summarize_terms(compared.get(MEDICAL, ()), occurrences, terms)
    return {
        "texts": {kind: asdict(summarize_divergence(group)) for kind, group in groups.items()},
        "documents": {kind: _each(group) for kind, group in compared.items()},
        "terms": {bucket: asdict(likelihood) for bucket, likelihood in found.items()},
    }


def _each(documents: Sequence[Compared]) -> dict[str, list[float]]:
    """Sums over the tokens of each document, in nats: what another model is paired with."""
    return {
        "tokens": [len(one.divergence) for one in documents],
        "kl": [float(one.divergence.sum()) for one in documents],
        "nats_lost": [float((one.parent - one.quantized).sum()) for one in documents],
    }


def _names(before: LookAlikeScores, after: LookAlikeScores) -> dict[str, Any]:
    """Look-alike names before and after."""
    scores = {"parent": asdict(before), "quantized": asdict(after)}
    return {"look_alikes": {**scores, "change": asdict(margin_change(before, after))}}


def _worst_first(errors: Mapping[str, float]) -> list[dict[str, Any]]:
    """The quantizer's error of each layer; None, last, where it fell back and gave none."""
    known = {name: error for name, error in errors.items() if not math.isnan(error)}
    worst = sorted(known, key=known.__getitem__, reverse=True)
    rows: list[dict[str, Any]] = [{"name": name, "error": known[name]} for name in worst]
    return rows + [{"name": name, "error": None} for name in errors if name not in known]


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
