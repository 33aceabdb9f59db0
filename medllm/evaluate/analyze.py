"""What follows from the scores: comparisons, subgroups, a page, a gate. It is no part of them.

It is made anew for each command, from the records in the folder, and stands beside the manifest.
"""

from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest, write_json
from medllm.evaluate.analysis.baseline import compare_with, compare_within
from medllm.evaluate.analysis.outcomes import Evaluation
from medllm.evaluate.analysis.shown import EXPLAINED, comparisons_of
from medllm.evaluate.config import EvaluateConfig

NAME = "analysis.json"


def analyze(config: EvaluateConfig, folder: Path, manifest: Manifest) -> dict[str, Any]:
    """What the records show, which is also written beside them and reported."""
    found = Evaluation(folder, manifest)
    if config.baseline:
        comparisons = compare_with(found, config.baseline, config.margin)
    else:
        comparisons = compare_within(found, config.margin)
    analysis = {"comparisons": comparisons}
    write_json(folder / NAME, analysis)
    console.report(analysis=analysis)
    return analysis


def show_analysis(analysis: dict[str, Any]) -> None:
    """Print what the records show."""
    if analysis["comparisons"]:
        console.table(*comparisons_of(analysis["comparisons"]), "paired, item by item")
        console.say(console.wrapped(EXPLAINED, ""))
