"""Records → scores, and scores → a table."""

import math
from collections.abc import Sequence
from typing import Any

from medllm.measures.intervals import estimate_proportion, estimate_ratio, macro_f1, majority_share


def summarize_choices(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy with its 95 % interval, macro-F1, and what always answering the most frequent label would score."""
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
    """Loss in nats per token and perplexity, with a 95 % bootstrap interval over the items."""
    loss = estimate_ratio(
        [-record["logprob"] for record in records], [record["tokens"] for record in records]
    )
    return {
        "items": len(records),
        "tokens": sum(record["tokens"] for record in records),
        "loss": loss.value,
        "perplexity": math.exp(loss.value),
        "perplexity_low": math.exp(loss.low),
        "perplexity_high": math.exp(loss.high),
    }


def table_of(scores: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table: a row a model, the tasks side by side."""
    tasks = {row["task"]: row for row in scores}
    columns = ["model", "MB"]
    for name, row in tasks.items():
        columns.append(_heading(name, row))
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for row in scores:
        cells.setdefault(row["model"], {})[row["task"]] = row
    rows = []
    for model, by_task in cells.items():
        size = next(iter(by_task.values()))["bytes"]
        line = [model, f"{size / 1e6:.1f}" if size else "?"]
        rows.append([*line, *(_cell(by_task[name]) if name in by_task else "" for name in tasks)])
    return columns, rows


def _heading(name: str, row: dict[str, Any]) -> str:
    if row["kind"] == "choices":
        return f"{name}: accuracy, 95 % interval, F1 (majority {row['majority']:.1%}, n = {row['items']})"
    return f"{name}: perplexity, 95 % interval (n = {row['items']})"


def _cell(row: dict[str, Any]) -> str:
    if row["kind"] == "choices":
        interval = f"{row['accuracy_low']:.1%}–{row['accuracy_high']:.1%}"
        return f"{row['accuracy']:.1%}  {interval}  {row['macro_f1']:.2f}"
    return f"{row['perplexity']:.2f}  {row['perplexity_low']:.2f}–{row['perplexity_high']:.2f}"
