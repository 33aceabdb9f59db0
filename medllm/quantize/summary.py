"""All formats of a command in one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest
from medllm.artifacts.serving import serving_lines
from medllm.places import short_path

COLUMNS = {
    "bits_per_weight": ("bits per weight", "{:.2f}"),
    "kl_mean": ("KL mean", "{:.4f}"),
    "top1_agreement": ("same token", "{:.1%}"),
    "perplexity_medical": ("medical ppl", "{:#.5g}"),
    "perplexity_general": ("general ppl", "{:#.5g}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "peak_memory_gib": ("peak GiB", "{:.2f}"),
}
"""Figures of a quantized model: heading and form."""


def table_of(manifests: Sequence[Manifest]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: the parent first, then a row a format; what was not measured is left out.

    KL is in nats per token, over all held-out text. The peak is that of a process which loads and
    scores the model; size is that of the weights.
    """
    found = [manifest.results for manifest in manifests]
    names = [name for name in COLUMNS if any(name in results for results in found)]
    rows = [_parent_of(found, names)]
    for manifest in manifests:
        results = manifest.results
        rows.append([_label(manifest), _size(results["bytes"]), *_cells(results, names)])
    return ["format", "MB", *(COLUMNS[name][0] for name in names)], rows


def show_serving(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """Say how to serve each elsewhere."""
    console.say("  serve elsewhere:")
    for manifest, folder in zip(manifests, folders, strict=True):
        for line in serving_lines(manifest, short_path(folder)):
            console.say(f"  {line}")


def _parent_of(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The row of the model that all were made from."""
    known = {name.removesuffix("_parent"): value for name, value in found[0].items()
             if name.endswith("_parent")}  # fmt: skip
    return ["the model", _size(found[0]["parent_bytes"]), *_cells(known, names)]


def _cells(results: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [COLUMNS[name][1].format(results[name]) if name in results else "" for name in names]


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _label(manifest: Manifest) -> str:
    """The folder's name: `gptq-4bit`."""
    return str(manifest.config["output"]).rstrip("/").rpartition("/")[2]
