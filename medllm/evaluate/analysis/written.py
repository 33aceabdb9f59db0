"""What the score of a written answer goes together with: its length, or the model's confidence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm.evaluate.analysis.outcomes import Record, Score
from medllm.measures.ratings import estimate_correlation

Row = dict[str, Any]
TOGETHER = ("ratio", "length_ratio", "answer_tokens", "repeated", "mean_logprob")
"""What an item's score may hang on: the compression, the length, and the model's confidence."""


def is_written(records: Sequence[Record]) -> bool:
    """Whether these are records of answers that a model wrote."""
    return bool(records) and all("finish_reason" in each for each in records)


def find_correlations(
    score: Score, measure: str, values: Mapping[str, float], records: Sequence[Record]
) -> Iterator[Row]:
    """How the score of an item goes together with what it may hang on; `values` are by id."""
    for name in TOGETHER:
        pairs = [(float(record[name]), values[record["id"]], _group(record)) for record in records
                 if record.get(name) is not None and record["id"] in values]  # fmt: skip
        if not pairs or name == measure:
            continue
        one, other, groups = zip(*pairs, strict=True)
        found = estimate_correlation(one, other, len({*groups}))
        if found:
            known = {"model": score["model"], "task": score["task"], "of": name, "with": measure}
            yield {**known, "items": len(pairs), **asdict(found)}


def _group(record: Record) -> str:
    return str(record.get("group", record["id"]))
