"""Records → scores, and scores → a table."""

import math
from collections.abc import Sequence
from typing import Any

from medllm.measures.intervals import estimate_proportion, estimate_ratio, macro_f1, majority_share


def summarize_choices(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy with its 95 % interval, macro-F1, and the accuracy of the most frequent label."""
    targets = [record["target"] for record in records]
    answers = [record["answer"] for record in records]
    hits = sum(target == answer for target, answer in zip(targets, answers, strict=True))
    accuracy = estimate_proportion(hits, len(records))
    return {
        "items": len(records),
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "macro_f1": macro_f1(targets, answers),
        "majority": majority_share(targets),
    }


def summarize_answers(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Loss in nats per token and perplexity, with a 95 % bootstrap interval over several items."""
    loss = estimate_ratio(
        [-record["logprob"] for record in records], [record["tokens"] for record in records]
    )
    return {
        "items": len(records),
        "tokens": sum(record["tokens"] for record in records),
        "loss": loss.value,
        "perplexity": math.exp(loss.value),
        "perplexity_low": None if loss.low is None else math.exp(loss.low),
        "perplexity_high": None if loss.high is None else math.exp(loss.high),
    }


def table_of(scores: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table: a row a model, the tasks side by side; intervals below scores.

    Where there are choices, a last row says what always giving the most frequent label scores.
    """
    tasks = {row["task"]: _cells(row) for row in scores}
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    for row in scores:
        by_model.setdefault(row["model"], {})[row["task"]] = row
    rows = []
    for model, cells in by_model.items():
        size = next(iter(cells.values()))["bytes"]
        plainly = any(row.get("template_missing") for row in cells.values())
        line = [
            f"{model}, asked plainly" if plainly else model,
            f"{size / 1e6:.1f}" if size else "?",
        ]
        rows.append([*line, *(cell for name in tasks for _, cell, _ in _cells(cells[name]))])
    flat = [column for columns in tasks.values() for column in columns]
    if any(row["kind"] == "choices" for row in scores):
        rows.append(["most frequent label", "", *(majority for _, _, majority in flat)])
    return ["model", "MB", *(heading for heading, _, _ in flat)], rows


def _cells(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The columns of a score: heading, cell, and what the most frequent label has there."""
    name, count = row["task"], f"n = {row['items']}"
    if row["kind"] == "choices":
        interval = f"{100 * row['accuracy_low']:.1f}–{100 * row['accuracy_high']:.1f}"
        cell = f"{row['accuracy']:.1%}\n{interval}"
        return [
            (f"{name} accuracy\n{count}", cell, f"{row['majority']:.1%}"),
            ("F1", f"{row['macro_f1']:.2f}", ""),
        ]
    interval = "no interval"  # one item says nothing of others
    if row["perplexity_low"] is not None:
        interval = f"{row['perplexity_low']:.2f}–{row['perplexity_high']:.2f}"
    return [(f"{name} perplexity\n{count}", f"{row['perplexity']:.2f}\n{interval}", "")]
