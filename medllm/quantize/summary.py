"""What one command made, side by side: sizes, what they cost, what they take to run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest
from medllm.artifacts.places import short_path
from medllm.artifacts.serving import serving_lines

COLUMNS = {
    "KL mean": ("kl_mean", "{:.4g}"),
    "perplexity": ("perplexity_medical", "{:.4g}"),
    "load s": ("load_seconds", "{:.1f}"),
    "tokens/s": ("tokens_per_second", "{:,.0f}"),
    "peak GiB": ("peak_memory_gib", "{:.2f}"),
}
"""Column → the result that it shows, and how. The peak is that of the process until then, with
the parent loaded too."""


def show_formats(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """Print one row a format where there are several, and how to serve each elsewhere."""
    found = [made for made in zip(manifests, folders, strict=True) if made[0].kind == "quantized"]
    if len(found) > 1:
        rows = [(folder.name, *_cells(manifest.results)) for manifest, folder in found]
        console.table(("format", "MB", "of parent", "bits a weight", *COLUMNS), rows)
    for manifest, folder in found:
        for line in serving_lines(manifest, short_path(folder)):
            console.say(f"  serve elsewhere: {line}")


def _cells(results: Mapping[str, Any]) -> tuple[str, ...]:
    size, parent = results["bytes"], results["parent_bytes"]
    bits = results.get("bits_per_weight")
    first = f"{size / 1e6:,.1f}", f"{size / parent:.0%}", f"{bits:.2f}" if bits else "–"
    shown = ((results.get(key), pattern) for key, pattern in COLUMNS.values())
    return *first, *("–" if value is None else pattern.format(value) for value, pattern in shown)
