"""A gate held against the scores, their differences and the worst subgroups."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from medllm import console
from medllm.measures.gates import Check, GateFile, Subject, Threshold, settle_gate

Score = Mapping[str, Any]
Analysis = Mapping[str, Any]
SHARES = ("accuracy", "passed")
"""The figures that are shares of all items."""


def fields_of(gate: GateFile | None) -> tuple[str, ...]:
    """The fields whose worst groups a gate asks for."""
    return tuple(each.worst for each in gate.thresholds if each.worst) if gate else ()


def apply_gate(
    name: str, gate: GateFile, checks: Sequence[tuple[Subject, Check]], output: Path
) -> None:
    """Settle what was held against a gate; the outcome is in `gate.json`, and said.

    Raises:
        GateError: a figure is beyond a threshold, or not measured; names each.
    """
    fix = "see report.html for what fails; evaluate more items where n cannot decide"
    settle_gate({"name": name, **gate.model_dump(mode="json")}, checks, output, fix)
    console.say(f"  gate {name}: passed, {len(checks)} checks")
    for subject, check in checks:
        if check.undecided:
            console.notice(f"gate {name}: {subject['model']}: {check}, but {check.undecided}")


def judge(
    gate: GateFile, scores: Sequence[Score], analysis: Analysis
) -> Iterator[tuple[Subject, Check]]:
    """Each threshold with what each model has to be held against it.

    Where nothing at all is measured that a gate asks for, that is a check that fails.
    """
    lines = [end for line in gate.thresholds for end in _ends_of(line)]
    found = [each for line in lines for each in _of_line(line, scores, analysis)]
    if not found:
        yield {"model": "all models"}, Check("what the gate asks for", None)
    yield from found


def _ends_of(line: Threshold) -> Iterator[Threshold]:
    """A line of a worst group for each of its thresholds: the lowest group is not the highest."""
    if line.worst and line.min is not None and line.max is not None:
        yield line.model_copy(update={"max": None})
        yield line.model_copy(update={"min": None})
    else:
        yield line


def _of_line(
    line: Threshold, scores: Sequence[Score], analysis: Analysis
) -> Iterator[tuple[Subject, Check]]:
    for model in dict.fromkeys(score["model"] for score in scores):
        own = [score for score in scores if score["model"] == model]
        asked = [score for score in own if line.task in (None, score["task"])]
        facts = [fact for score in asked if (fact := _fact(line, score, analysis))]
        if not facts and not line.where_measured:
            facts = [{"task": line.task or "", "value": None}]
        if not facts:
            console.notice(f"gate: {model}: {line.figure} is measured nowhere, and not held")
        for fact in facts:
            name = " ".join(filter(None, [fact["task"], line.figure, fact.get("group", "")]))
            subject = {"model": model, "task": fact["task"], "identity": own[0]["identity"]}
            yield subject, _check(_named(name, line), line, fact)


def _check(figure: str, line: Threshold, fact: Mapping[str, Any]) -> Check:
    known: dict[str, Any] = {key: fact.get(key) for key in ("value", "low", "high", "items")}
    return Check(
        figure, max=line.max, min=line.min, bound=line.bound,
        is_share=bool(fact.get("is_share")), **known,
    )  # fmt: skip


def _named(name: str, line: Threshold) -> str:
    words = {"difference": "difference of ", "gain": "gain over the most frequent label of "}
    return f"{words.get(line.of, '')}{name}"


def _fact(line: Threshold, score: Score, analysis: Analysis) -> dict[str, Any] | None:
    """What is judged of a score: value, ends, items; None where it is not measured."""
    if line.of == "difference":
        return _difference(line, score, analysis)
    if line.worst:
        return _worst(line, score, analysis)
    name = line.figure
    if not isinstance(score.get(name), int | float) or isinstance(score[name], bool):
        return None  # no number, as `by_subject`
    fact = {
        "value": score[name],
        "low": score.get(f"{name}_low"),
        "high": score.get(f"{name}_high"),
    }
    if line.of == "gain":
        if score.get("majority") is None:
            return None
        fact = {end: None if each is None else each - score["majority"]
                for end, each in fact.items()}  # fmt: skip
    is_share = name in SHARES and line.of == "value"
    items = score.get(f"{name}_items", score["items"])  # of some figures a part of all
    return {**fact, "task": score["task"], "items": items, "is_share": is_share}


def _difference(line: Threshold, score: Score, analysis: Analysis) -> dict[str, Any] | None:
    """What the model has more than its baseline; unknown where they could not be compared."""
    if score.get(line.figure) is None:
        return None
    fact = {"task": score["task"], "value": None, "items": score["items"]}
    of_task = [row for row in analysis["comparisons"] if row["task"] == score["task"]]
    rows = [row for row in of_task if row["model"] == score["model"]]
    if not rows:
        is_reference = any(row["baseline"] == score["model"] for row in of_task)
        return None if is_reference and not analysis["baseline"] else fact
    known = [row for row in rows if row.get("measure") == line.figure and "difference" in row]
    return {**fact, **known[0]["difference"]} if known else fact


def _worst(line: Threshold, score: Score, analysis: Analysis) -> dict[str, Any] | None:
    """The group with the least, or where the most is limited the greatest value.

    With `bound` it is the one whose interval reaches furthest; one without an interval before all.
    """
    found = [
        row
        for row in analysis["subgroups"]
        if (row["model"], row["task"], row["by"], row["measure"])
        == (score["model"], score["task"], line.worst, line.figure)
    ]
    if not found:
        return None
    sign, end = (1, "low") if line.min is not None else (-1, "high")
    judged = end if line.bound else "value"
    worst = min(found, key=lambda row: -inf if row[judged] is None else sign * row[judged])
    return {**worst, "group": f"of {worst['group']}", "is_share": worst["unit"] == "share"}
