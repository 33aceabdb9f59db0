"""Patterns of errors: each with what it is, how often it is, and what to try."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from medllm.evaluate.analysis.outcomes import ACCURACY, LOSS, Outcomes, Record
from medllm.measures.intervals import estimate_share

CLOSE = 0.1
"""Nats between the first and the second choice: the first is 1.1 times as likely."""
SURE = 0.9
"""A choice with so much of the probability of all choices is a confident one."""
VERBOSE = 2
"""Times the words of the reference beyond which an answer is verbose."""
REPEATED = 0.5
"""Share of runs of four words that stood there before, beyond which an answer repeats itself."""
SHOWN = 10
"""Items of each end that are named."""

Row = dict[str, Any]


def find_patterns(found: Sequence[Outcomes]) -> list[Row]:
    """What goes wrong, of each model and task; what never does is left out."""
    rows: list[Row] = []
    for each in found:
        known = {"model": each.model, "task": each.task}
        if each.measure == ACCURACY and all("logprobs" in record for record in each.records):
            rows += [{**known, **row} for row in _patterns(each) if row["rate"]["value"] > 0]
        elif all("finish_reason" in record for record in each.records):
            rows += [{**known, **row} for row in _of_written(each) if row["rate"]["value"] > 0]
    return rows


def _of_written(found: Outcomes) -> Iterator[Row]:
    """What goes wrong in answers that a model writes."""
    told: tuple[tuple[str, str, Callable[[Record], bool], str], ...] = (
        ("cut answers", "answers that ended at max_tokens or at the end of the context",
         lambda record: record["finish_reason"] == "length",
         "a higher max_tokens, `stop`, or training on answers that end"),
        ("empty answers", "answers without a word", lambda record: record["answer_empty"],
         "look at the chat template and at `stop`"),
        ("repetition", f"answers of which {REPEATED:.0%} of the runs of four words stood there "
         "before", lambda record: record.get("repeated", 0) > REPEATED,
         "repetition_penalty 1.1, or training on the task"),
        ("verbosity", f"answers of over {VERBOSE} × the words of the reference",
         lambda record: record.get("length_ratio", 0) > VERBOSE,
         "an instruction to be short, num_beams with a length_penalty below 1, or training on the "
         "references"),
        ("brevity", f"answers of less than 1/{VERBOSE} of the words of the reference",
         lambda record: 0 < record.get("length_ratio", 1) < 1 / VERBOSE,
         "an instruction that says what to cover, a higher max_tokens"),
        ("refusal", "answers that do nothing but refuse, by rules that read English",
         lambda record: record.get("refused", False),
         "a `system` message that says who asks, and what for"),
    )  # fmt: skip
    for name, what, holds, advice in told:
        yield _pattern(name, what, found.records, holds, advice)


def _patterns(found: Outcomes) -> Iterator[Row]:
    """What goes wrong in choices."""
    records = found.records
    wrong = [record for record in records if not record["value"]]
    if wrong:
        yield from _wrong_options(records, wrong)
        what = f"wrong answers that got {SURE:.0%} of the probability or more"
        advice = "judge by abstaining, not by confidence; train on such items"
        yield _pattern("confidently wrong", what, wrong,
                       lambda record: _share_of_first(record) >= SURE, advice)  # fmt: skip
    if all(len(record["logprobs"]) > 1 for record in records):
        what = f"items whose first two choices are less than {CLOSE:g} nats apart"
        advice = "more bits, or computing in float32: rounding decides these"
        yield _pattern("close calls", what, records, lambda record: _lead(record) < CLOSE, advice)
    what = "items whose prompt lost its beginning to fit the context"
    yield _pattern("cut prompts", what, records, lambda record: record.get("cut", 0) > 0,
                   "a higher n_ctx")  # fmt: skip


def _wrong_options(records: Sequence[Record], wrong: Sequence[Record]) -> Iterator[Row]:
    """The labels that wrong answers fall on more often than if they were spread evenly."""
    labels = sorted({record["target"] for record in records})
    if len(labels) < 2 or any(len(record["logprobs"]) != len(labels) for record in records):
        return  # each item has choices of its own, and no label is the same one in all
    for label in labels:
        could = [record for record in wrong if record["target"] != label]
        if not could:
            continue
        even = 1 / (len(labels) - 1)
        what = f"wrong answers that say “{label}”, where {even:.0%} would be even"
        if len(labels) == 2:  # a wrong answer of two has no choice left: count all answers instead
            could = [*records]
            even = sum(record["target"] == label for record in records) / len(records)
            what = f"answers that say “{label}”, the label of {even:.0%}"
        advice = "worked examples (num_fewshot), apply_chat_template, or training on this form"
        row = _pattern("wrong-option bias", what, could, partial(_says, label), advice)
        if row["rate"]["low"] is not None and row["rate"]["low"] > even:
            yield row


def _says(label: str, record: Record) -> bool:
    return bool(record["answer"] == label)


def _pattern(
    name: str, what: str, records: Sequence[Record], holds: Callable[[Record], bool], advice: str
) -> Row:
    """Of how many of these records something holds, and what to try."""
    groups = [record["group"] for record in records]
    rate = asdict(estimate_share([bool(holds(record)) for record in records], groups))
    return {"pattern": name, "definition": what, "of": len(groups), "rate": rate, "try": advice}


def _lead(record: Record) -> float:
    """Nats between the first and the second choice."""
    first, second, *_ = sorted(record["logprobs"], reverse=True)
    return float(first - second)


def _share_of_first(record: Record) -> float:
    """The probability of the first choice among the choices."""
    logprobs = record["logprobs"]
    return 1 / sum(math.exp(each - max(logprobs)) for each in logprobs)


def rank_items(found: Sequence[Outcomes]) -> list[Row]:
    """The items that went best and worst, by id: of choices by their lead, of losses by nats."""
    return [{"model": each.model, "task": each.task, **_ends(each)} for each in found]


def _ends(found: Outcomes) -> Row:
    """Best first, and worst first; each an id and its number."""
    scored, unit = _ranked(found)
    ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    half = min(SHOWN, len(ordered) // 2)
    best, worst = ordered[:half], ordered[::-1][:half]
    return {"unit": unit, "best": [[i, n] for n, i in best], "worst": [[i, n] for n, i in worst]}


def _ranked(found: Outcomes) -> tuple[list[tuple[float, str]], str]:
    """A number of each item, the more the better, and what it is."""
    records, measure = found.records, found.measure
    if all("margin" in record for record in records):
        of_margin = "nats that the right sentence leads by, below 0 where it does not"
        return [(each["margin"], each["id"]) for each in records], of_margin
    if measure.is_share:
        choices = [record for record in records if len(record.get("logprobs", ())) > 1]
        leads = [(_lead(each) * (1 if each["value"] else -1), each["id"]) for each in choices]
        return leads, "nats that the answer leads by, below 0 where it is wrong"
    sign = 1 if measure.higher_is_better else -1
    values = [(sign * each["value"] / each["weight"], each["id"]) for each in records
              if each["weight"]]  # fmt: skip
    return values, "log-likelihood, nats a token" if measure == LOSS else measure.unit
