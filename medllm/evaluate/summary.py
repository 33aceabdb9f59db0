"""Scores → a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medllm.evaluate.analysis.shown import interval_of
from medllm.evaluate.kinds import KINDS, Column

Score = Mapping[str, Any]
"""The numbers of a model on a task, as they stand in the manifest."""
MARK = "°"
"""Of a score that is not above the trivial one."""
SEEN = "†"
"""Of a score on items of which the model was trained on some."""


def table_of(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table: a row a model, the tasks side by side; intervals below scores.

    Last comes a row for each baseline, such as what always giving the most frequent label scores.
    """
    by_model: dict[str, dict[str, Score]] = {}
    for score in scores:
        by_model.setdefault(score["model"], {})[score["task"]] = score
    tasks = {score["task"]: _columns(score) for score in scores}
    columns = [column for of_task in tasks.values() for column in of_task]
    rows = []
    for model, cells in by_model.items():
        shown = [column.cell for task in tasks for column in _columns(cells[task])]
        rows.append([*_begin(model, list(cells.values())), *shown])
    for name in dict.fromkeys(name for column in columns for name in column.baselines):
        rows.append([name, "", *(column.baselines.get(name, "") for column in columns)])
    return ["model", "MB", *(column.heading for column in columns)], rows


def standing(scores: Sequence[Score], base: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a short table, in the order of the models: the first task alone.

    `base` is the name of the model that all were made from, which is marked.
    """
    first = first_task(scores)
    columns = [_columns(score)[0] for score in first]
    rows = []
    for score, column in zip(first, columns, strict=True):
        value, _, interval = column.cell.partition("\n")
        name, size = _begin(score["model"], [score])
        role = {base: ", the base", "merged": ", tuned", "adapter": ", tuned"}
        rows.append([name + role.get(score["model"], ""), value, interval, size])
    rows += [[name, value, "", ""] for name, value in columns[0].baselines.items()]
    return ["model", columns[0].heading, "interval", "MB"], rows


def first_task(scores: Sequence[Score]) -> list[Score]:
    """The scores on the first task."""
    return [score for score in scores if score["task"] == scores[0]["task"]]


def verdict(scores: Sequence[Score], comparisons: Sequence[Mapping[str, Any]], base: str) -> str:
    """Whether training helped on the first task, in a sentence; nothing where none can tell.

    It is what the comparison on the same items concludes: intervals that overlap conclude nothing.
    """
    by_model = {score["model"]: score for score in first_task(scores)}
    after = by_model.get("merged") or by_model.get("adapter")
    named = after and {"baseline": base, "model": after["model"], "task": after["task"]}
    told = [each["conclusion"] for each in comparisons
            if named and named.items() <= each.items() and "conclusion" in each]  # fmt: skip
    if not after or not told:
        return ""
    if told[0] == "worse":
        return "Training harmed: on the same items the tuned model is worse than the base."
    if told[0] != "better":
        return "These items cannot show that training helped."
    said = "Training helped: on the same items the tuned model is better than the base"
    trivial = "" if is_above_trivial(after) else ", but not than always the most frequent label"
    return f"{said}{trivial}."


def is_above_trivial(score: Score) -> bool:
    """Whether a model is surely better than always giving the most frequent label.

    That is never worse than always giving the first choice. Scores without labels are.
    """
    low = score.get(f"{KINDS[score['kind']].measure}_low")
    return "majority" not in score or (low is not None and bool(low > score["majority"]))


def footnotes(scores: Sequence[Score]) -> str:
    """What the marks in a table mean, and where n is not what its intervals are over."""
    told = [_without_seen(score) for score in scores if score.get("trained_on")]
    if not all(map(is_above_trivial, scores)):
        told.insert(0, f"{MARK} not above what always giving the most frequent label scores")
    told += dict.fromkeys(
        f"{score['task']}: intervals over {score['groups']:,} groups, as patients, of "
        f"{score['items']:,} items"
        for score in scores if "groups" in score
    )  # fmt: skip
    return "\n".join(told)


def _without_seen(score: Score) -> str:
    """How many items a model was trained on, and what it scores on the others."""
    found = score["trained_on"]
    told: str = (
        f"{SEEN} {score['model']} was trained on {found['items']} of {score['items']} items of "
    )
    told += str(score["task"])
    others = found["without"]
    if not others or others["value"] is None:
        return told
    is_share = others["measure"] == "accuracy"
    scale, digits = (100, 1) if is_share else (1, 3)
    value = f"{scale * others['value']:.{digits}f}{' %' if is_share else ''}"
    interval = interval_of(others, scale, digits)
    return f"{told}; {others['measure']} on the other {others['items']}: {value} ({interval})"


def _columns(score: Score) -> list[Column]:
    """The columns of a score, the first marked where the score is worth nothing."""
    first, *others = KINDS[score["kind"]].columns(score)
    marks = "" if is_above_trivial(score) else MARK
    marks += SEEN if score.get("trained_on") else ""
    if not marks:
        return [first, *others]
    value, line, interval = first.cell.partition("\n")
    return [replace(first, cell=f"{value} {marks}{line}{interval}"), *others]


def _begin(model: str, scores: Sequence[Score]) -> list[str]:
    """The name of a model, with what is to be known of its scores, and its size."""
    size = scores[0]["bytes"]
    plainly = any(score.get("template_missing") for score in scores)
    label = f"{model}, asked plainly" if plainly else model
    return [label, f"{size / 1e6:.1f}" if size else "?"]
