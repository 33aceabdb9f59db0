"""Models beside a baseline, item by item: only where both were asked the same in the same way."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import NAME
from medllm.config.base import is_there
from medllm.errors import ArtifactError
from medllm.evaluate.analysis.outcomes import Evaluation, Measure, Outcomes, Record
from medllm.evaluate.analysis.samples import find_samples, read_samples
from medllm.evaluate.keyed import Keyed
from medllm.measures.likelihood import WINDOW
from medllm.measures.paired import (
    ALPHA,
    Comparison,
    compare_means,
    compare_ratios,
    compare_right,
    holm,
    judge_margin,
)

Row = dict[str, Any]
"""A comparison as plain data: `model`, `baseline`, `task`, and numbers, or why it was `refused`."""
ASKED = ("chat_template", "template", "num_fewshot", "fewshot", "preamble_left_out")
"""What must be equal of how two models were asked, as far as both say it."""
UNPAIRED = {
    "speed": "the times of two runs hang on what else the machines did: run both in one command, "
    "and look at the intervals"
}
"""Why kinds of task have no paired comparison."""
NO_RECORDS = "its records hold no value of each item"


class Unlike(Exception):
    """Why two models cannot be compared on a task."""


def check_baseline(place: Path, tasks: Sequence[str]) -> None:
    """Raise ArtifactError where a baseline cannot be compared with, before anything is scored."""
    folder, model = _evaluation_of(place)
    if folder is None:
        if not is_there(place) or not find_samples(place):
            fix = "name a folder of `medllm evaluate`, a model's folder in it, or lm-eval's samples"
            raise ArtifactError(f"baseline: no evaluation at {place}", fix)
        return
    scores = Evaluation.open(folder, "baseline").scores
    found = {score["task"] for score in scores if model in (None, score["model"])}
    if not found:
        names = ", ".join(sorted({score["model"] for score in scores}))
        raise ArtifactError(f"baseline: {folder} has no model {model}", f"name one of: {names}")
    if not found & {*tasks}:
        message = f"baseline: {place} has scores on {', '.join(sorted(found))}, on none of these"
        raise ArtifactError(f"{message} tasks: {', '.join(tasks)}", "name another baseline")


def compare_with(found: Evaluation, place: Path, margin: float | None) -> list[Row]:
    """Each model of an evaluation beside the baseline.

    Raises:
        ArtifactError: none of them can be compared; says why.
    """
    ours = found.outcomes() + found.pooled()
    pairs = list(_pairs_with(ours, place))
    rows = compare_pairs(pairs, margin) + _unpaired(found, ours)
    if rows and all("refused" in row for row in rows):
        told = "\n".join(dict.fromkeys(f"{row['task']}: {row['refused']}" for row in rows))
        fix = "evaluate both on the same items, asked in the same way"
        raise ArtifactError(f"baseline: {place} cannot be compared with\n{told}", fix)
    return rows


def compare_within(found: Evaluation, margin: float | None) -> list[Row]:
    """Each model of an evaluation beside its first one."""
    ours = found.outcomes() + found.pooled()
    first = {each.task: each for each in reversed(ours)}
    pairs = [(first[each.task], each) for each in ours if each is not first[each.task]]
    return compare_pairs(pairs, margin)


def compare_among(pairs: Sequence[tuple[Outcomes, Outcomes]]) -> list[Row]:
    """The second of each pair beside the first: a row each, by its first measure."""
    return _adjusted([_row(before, after, None) for before, after in pairs])


def _unpaired(found: Evaluation, ours: Sequence[Outcomes]) -> list[Row]:
    """The scores that have nothing to compare item by item, and why."""
    known = {(each.model, each.task) for each in ours}
    rows = []
    for score in found.scores:
        if (score["model"], score["task"]) not in known:
            named = {"model": score["model"], "baseline": None, "task": score["task"]}
            rows.append(_refused(named, UNPAIRED.get(score["kind"], NO_RECORDS)))
    return rows


def _evaluation_of(place: Path) -> tuple[Path | None, str | None]:
    """The folder of an evaluation that a place is, or is the folder of a model in."""
    if is_there(place / NAME):
        return place, None
    if is_there(place.parent / NAME) and place.is_dir():
        return place.parent, place.name
    return None, None


def _pairs_with(ours: Sequence[Outcomes], place: Path) -> Iterator[tuple[Outcomes | str, Outcomes]]:
    """The baseline of each outcome, or why it has none."""
    folder, model = _evaluation_of(place)
    opened = Evaluation.open(folder, "baseline") if folder else None
    theirs = opened.outcomes() + opened.pooled() if opened else []
    theirs = [each for each in theirs if model in (None, each.model)]
    for each in ours:
        candidates = theirs if folder else _samples_for(each, place)
        yield _counterpart(each, [one for one in candidates if one.task == each.task]), each


def _counterpart(ours: Outcomes, candidates: Sequence[Outcomes]) -> Outcomes | str:
    """The one of the same name, else the only one."""
    named = [each for each in candidates if each.model == ours.model]
    chosen = named or candidates
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        return "the baseline has no records of this task"
    names = ", ".join(each.model for each in chosen)
    return f"the baseline has several models ({names}): name the folder of one in it"


def _samples_for(ours: Outcomes, place: Path) -> list[Outcomes]:
    """The samples of another tool that have most prompts in common, under our task's name."""
    keyed = Keyed.named(ours.score.get("prompt_key", ""))
    if keyed is None:
        return []
    own = {record.get("prompt") for record in ours.records}
    found = read_samples(place, keyed)
    shared = [len(own & {*each.column("prompt")}) for each in found]
    best = found[shared.index(max(shared))] if found else None
    if best is None:
        return []
    return [Outcomes(best.model, ours.task, best.measure, best.score, best.records, best.source)]


def compare_pairs(
    pairs: Sequence[tuple[Outcomes | str, Outcomes]], margin: float | None
) -> list[Row]:
    """The second of each pair beside the first, by each of its measures, or why not."""
    return _adjusted([row for pair in pairs for row in _rows(*pair, margin)])


def _adjusted(rows: list[Row]) -> list[Row]:
    """The rows with each p by Holm for all of them, and what follows."""
    tested = [row for row in rows if "refused" not in row]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
        is_better = (row["difference"]["value"] > 0) == row["higher_is_better"]
        row["conclusion"] = "no difference shown"
        if p < ALPHA:
            row["conclusion"] = "better" if is_better else "worse"
    return rows


def _rows(before: Outcomes | str, after: Outcomes, margin: float | None) -> Iterator[Row]:
    """A comparison, and those of the measures that belong to it, as precision and recall to F1."""
    first = _row(before, after, margin)
    yield first
    if isinstance(before, Outcomes) and "refused" not in first:
        for old, new in zip(before.parts(), after.parts(), strict=True):
            yield _row(old, new, margin)


def _row(before: Outcomes | str, after: Outcomes, margin: float | None) -> Row:
    named = before.model if isinstance(before, Outcomes) else None
    row: Row = {"model": after.model, "baseline": named, "task": after.task}
    try:
        if isinstance(before, str):
            raise Unlike(before)
        found = compare(before, after)
    except Unlike as reason:
        return _refused({**row, "measure": after.measure.name}, str(reason))
    higher = after.measure.higher_is_better
    row |= {"measure": after.measure.name, "unit": after.measure.unit, "higher_is_better": higher}
    row |= asdict(found)
    if found.gained is not None and any("subject" in each for each in after.records):
        row["by_subject"] = _by_subject(pair_items(before, after))
    if margin is not None:
        row["margin"] = margin
        row["verdict"] = judge_margin(found.difference, margin, higher_is_better=higher)
    return row


def _refused(row: Row, reason: str) -> Row:
    console.notice(f"evaluate: {row['model']}, {row['task']}: not compared: {reason}")
    return {**row, "refused": reason}


def _by_subject(pairs: Sequence[tuple[Record, Record]]) -> dict[str, tuple[int, int]]:
    """Of each subject how many items only the second model has right, and only the first."""
    changes: defaultdict[str, list[float]] = defaultdict(list)
    for old, new in pairs:
        if "subject" in new:
            changes[str(new["subject"])].append(new["value"] - old["value"])
    return {
        subject: (sum(each > 0 for each in found), sum(each < 0 for each in found))
        for subject, found in sorted(changes.items())
    }


def compare(before: Outcomes, after: Outcomes) -> Comparison:
    """The second model less the first on the same items.

    Raises:
        Unlike: they were asked other items, or otherwise.
    """
    _check_asked_alike(before, after)
    pairs = pair_items(before, after)
    _check_numbers(pairs)
    if after.measure.is_ratio:
        return _compare_ratio(pairs, after.measure)
    pairs = _with_values(pairs, f"evaluate: {after.model}, {after.task}")
    old, new = ([record["value"] for record in side] for side in zip(*pairs, strict=True))
    groups = [record["group"] for _, record in pairs]
    if after.measure.is_share:
        return compare_right([*map(bool, old)], [*map(bool, new)], groups)
    weights = [record["weight"] for _, record in pairs]
    if weights != [record["weight"] for record, _ in pairs]:
        raise Unlike("their tokenizers differ, so a nat per token is not the same")
    return compare_means(old, new, weights, groups)


def _compare_ratio(pairs: Sequence[tuple[Record, Record]], measure: Measure) -> Comparison:
    old, new = ([(each["value"], each["weight"]) for each in side]
                for side in zip(*pairs, strict=True))  # fmt: skip
    for which, side in (("the baseline", old), ("the model", new)):
        if not any(weight for _, weight in side):
            raise Unlike(f"{which} has no {measure.name}: it has nothing to count")
    return compare_ratios(old, new, [record["group"] for _, record in pairs])


def _with_values(pairs: Sequence[tuple[Record, Record]], what: str) -> list[tuple[Record, Record]]:
    """The pairs of which both have a value; says how many only one has."""
    kept = [(old, new) for old, new in pairs if old["weight"] and new["weight"]]
    lost = sum(bool(old["weight"] or new["weight"]) for old, new in pairs) - len(kept)
    if not kept:
        raise Unlike("no item has a value of both")
    if lost:
        console.notice(f"{what}: {console.counted(lost, 'item')} not compared: one has no value")
    return kept


def _check_numbers(pairs: Sequence[tuple[Record, Record]]) -> None:
    """Raise Unlike where a value is no number: left out it would flatter whoever made it."""
    for at, whose in enumerate(("the baseline", "the model")):
        if lost := sum(not math.isfinite(pair[at]["value"]) for pair in pairs):
            items = console.counted(lost, "item")
            raise Unlike(f"{whose} has values that are no numbers, of {items}")


def _check_asked_alike(before: Outcomes, after: Outcomes) -> None:
    if before.measure != after.measure:
        raise Unlike(f"one has {before.measure.name}, the other {after.measure.name}")
    old, new = before.score, after.score
    for key in ASKED if before.source == after.source else ():
        if key in old.keys() & new.keys() and old[key] != new[key]:
            raise Unlike(f"they were asked otherwise: {key} differs")
    if before.source != after.source and new.get("chat_template"):
        raise Unlike("one was asked through a chat template, the other plainly")
    sizes = [score["n_ctx"] for score in (old, new) if score.get("n_ctx")]
    is_cut = any(score.get("cut") for score in (old, new))
    if len({*sizes}) > 1 and (is_cut or min(sizes) < WINDOW):
        raise Unlike(f"their contexts differ: n_ctx {sizes[0]:,} and {sizes[1]:,}")


def pair_items(before: Outcomes, after: Outcomes) -> list[tuple[Record, Record]]:
    """The records of both for each item.

    Raises:
        Unlike: the items or their prompts differ, or it cannot be known.
    """
    by = "id" if before.source == after.source else "prompt"
    if before.source == after.source:
        keys = {each.score.get("prompt_key") for each in (before, after)}
        if len(keys) > 1 or None in keys:
            raise Unlike("whether the prompts are the same is not known: their digests have "
                         "another key, or none")  # fmt: skip
    waiting: defaultdict[str, list[Record]] = defaultdict(list)
    for record in before.records:
        waiting[record[by]].append(record)
    ours, theirs = (Counter(each.column(by)) for each in (after, before))
    if ours != theirs:
        both = (ours & theirs).total()
        raise Unlike(
            f"the items differ: {theirs.total()} of the baseline, {ours.total()} here, {both} in "
            "common" + (", by their prompts" if by == "prompt" else "")
        )
    pairs = [(waiting[record[by]].pop(0), record) for record in after.records]
    if changed := sum(old["prompt"] != new["prompt"] for old, new in pairs):
        raise Unlike(f"the prompts of {changed} of {len(pairs)} items differ")
    return pairs
