"""What the documents say is what the code says and what was measured."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "docs" / "benchmarks"
ANYTHING = "\0"
"""Stands for what a message fills in."""


@cache
def messages() -> str:
    """All texts in the code, each on a line; what is filled in is ANYTHING."""
    found = []
    for path in sorted((ROOT / "medllm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(pieces(node)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in found)


def pieces(text: ast.JoinedStr) -> Iterator[str]:
    for value in text.values:
        yield str(value.value) if isinstance(value, ast.Constant) else ANYTHING


def headings() -> list[str]:
    """The headings of troubleshooting that quote a message, one of several at a time."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    return [part for line in quoted for part in line.split(" / ") if not is_described(part)]


def is_described(heading: str) -> bool:
    """Whether a heading tells of a trouble that no message of ours names."""
    return heading in {
        "`pip install` stops at PyPcre or gptqmodel: `Python.h: No such file or directory`",
        "pip finds no version that fits",
        "`medllm: command not found`",
        "A segmentation fault in llama.cpp on a recent Intel processor",
        "A run was killed",
        "401 from the server",
    } or heading.startswith(("The first ", "Everything is ", "Training on a processor "))


@pytest.mark.parametrize("heading", headings())
def test_a_heading_of_troubleshooting_is_a_message(heading: str) -> None:
    parts = re.split(r"<[^>]*>|…", heading.replace("`", ""))
    words = [re.escape(part.strip()) for part in parts if part.strip(" :.")]
    gap = f"[^\n]{{0,40}}?{ANYTHING}?[^\n]{{0,40}}?"

    assert re.search(gap.join(words), messages()), heading


def figures(name: str) -> Any:
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def ratios(runs: dict[str, Any], what: str, one: str, other: str) -> list[float]:
    """`one` / `other` within each round that ran both."""
    pairs = zip(runs[one], runs[other], strict=False)
    return [mine[what] / theirs[what] for mine, theirs in pairs]


def spread(values: list[float], digits: int) -> str:
    """The lowest and the highest, as a document writes them; one where both round alike."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def finetune_figures() -> list[str]:
    speed = "useful_tokens_per_second"
    runs = figures("finetune")["runs"]
    trl = ratios(runs, speed, "medllm", "trl")
    guide = ratios(runs, speed, "medllm", "guide")
    bfloat16 = ratios(runs, speed, "medllm-bf16", "guide")
    nf4 = ratios(runs, speed, "medllm-nf4", "guide-nf4")
    return [
        f"{spread(trl, 1)} times as many useful tokens a second as plain TRL",
        f"({len(trl)} rounds)",
        f"{spread(guide, 1)} times as many as a guide's script",
        f"{spread(bfloat16, 1)} times in bfloat16",
        f"{spread(nf4, 1)} times where both train on 4 bits (one round each)",
    ]


def rehearsal_figures() -> list[str]:
    models = figures("rehearsal")["models"].values()
    seconds = [one["seconds, foretold / taken"] for one in models]
    memory = [one["memory_gib, foretold / taken"] for one in models]
    return [f"{spread(seconds, 2)} of the time and {spread(memory, 2)} of the memory"]


def gptq_figures() -> list[str]:
    runs = figures("quantize-gptq")["runs"]
    time = ratios(runs, "quantize_seconds", "medllm", "bare")
    memory = ratios(runs, "peak_mib", "medllm", "bare")
    bare = [one["peak_mib"] for one in runs["bare"]]
    own = {row["what"]: row["own_mib"] for row in figures("quantize-memory")["rows"]}
    large = own["gptq"] / own["bare gptqmodel"]
    return [
        f"GPTQ takes {spread(time, 2)} of the time of bare gptqmodel",
        f"and {spread(memory, 2)} of its peak memory",
        f"{len(time)} pairs",
        f"({min(bare):,.0f} to {max(bare):,.0f} MiB for the bare library)",
        f"With 1.1 billion parameters the memory is {large:.2f} of it",
    ]


def formats_figures() -> list[str]:
    sets = figures("quantize-formats")["sets"].values()
    gptq, gguf = (
        [one / apart for one, apart in zip(*each["runs"].values(), strict=True)] for each in sets
    )
    return [
        f"GPTQ and Q4_K_M in one command take {spread(gptq, 2)} of the time of two commands",
        f"three GGUF types {spread(gguf, 2)} of three",
        f"({len(gptq)} rounds)",
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("finetune.md", finetune_figures()),
        ("finetune.md", rehearsal_figures()),
        ("quantize.md", gptq_figures()),
        ("quantize.md", formats_figures()),
    ],
    ids=["finetune", "rehearsal", "gptq", "formats"],
)
def test_a_figure_in_a_document_is_the_one_that_was_measured(
    document: str, said: list[str]
) -> None:
    text = " ".join((ROOT / "docs" / document).read_text(encoding="utf-8").split())

    assert [each for each in said if each not in text] == []


def test_the_readme_names_every_figure_and_the_script_that_made_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"`(scripts/benchmarks/\w+\.py)`", readme))

    assert [f.name for f in BENCHMARKS.iterdir() if f"`{f.name}`" not in readme] == []
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
