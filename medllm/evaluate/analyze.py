"""What follows from the scores: comparisons, subgroups, a page, a gate. It is no part of them.

It is made anew for each command, from the records in the folder, and stands beside the manifest.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest, write_json
from medllm.evaluate.analysis.baseline import compare_with, compare_within
from medllm.evaluate.analysis.outcomes import Evaluation, Outcomes
from medllm.evaluate.analysis.patterns import find_patterns, rank_items
from medllm.evaluate.analysis.shown import EXPLAINED, OF_SUBGROUPS, comparisons_of, subgroups_of
from medllm.evaluate.analysis.subgroups import FEW, score_subgroups, score_subjects
from medllm.evaluate.analysis.written import find_correlations, is_written
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.gate import fields_of
from medllm.measures.gates import GateFile
from medllm.places import short_ref

NAME = "analysis.json"


def analyze(
    config: EvaluateConfig, gate: GateFile | None, folder: Path, manifest: Manifest
) -> dict[str, Any]:
    """What the records show, which is also written beside them and reported."""
    found = Evaluation(folder, manifest)
    outcomes = found.outcomes()
    if config.baseline:
        comparisons = compare_with(found, config.baseline, config.margin)
    else:
        comparisons = compare_within(found, config.margin)
    analysis = {
        "baseline": short_ref(config.baseline),
        "comparisons": comparisons,
        "subgroups": score_subgroups(outcomes, config.by, fields_of(gate)),
        "subjects": score_subjects(outcomes, comparisons),
        "patterns": find_patterns(outcomes),
        "correlations": [row for each in outcomes for row in _correlations(each)],
        "items": rank_items(outcomes),
    }
    write_json(folder / NAME, analysis)
    console.report(analysis=analysis)
    return analysis


def _correlations(found: Outcomes) -> Iterator[dict[str, Any]]:
    if is_written(found.records):
        values = {each["id"]: each["value"] / each["weight"] for each in found.records
                  if each["weight"]}  # fmt: skip
        yield from find_correlations(found.score, found.measure.name, values, found.records)


def show_analysis(analysis: dict[str, Any]) -> None:
    """Print what the records show."""
    if analysis["comparisons"]:
        for task in dict.fromkeys(row["task"] for row in analysis["comparisons"]):
            rows = [row for row in analysis["comparisons"] if row["task"] == task]
            console.table(*comparisons_of(rows))
        console.say(console.wrapped(EXPLAINED, ""))
    if analysis["subgroups"]:
        console.table(*subgroups_of(analysis["subgroups"]), "by subgroup, with 95 % intervals")
        console.say(console.wrapped(OF_SUBGROUPS.format(FEW), ""))
