"""The scores, and what follows from them, as a page; it holds ids and numbers, no text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm.evaluate.analysis.shown import (
    EXPLAINED,
    OF_SUBGROUPS,
    comparisons_of,
    interval_of,
    scaled_ends,
    shown_p,
    subgroups_of,
)
from medllm.evaluate.analysis.subgroups import FEW
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds import KINDS
from medllm.evaluate.kinds.base import MOST_FREQUENT, Tells
from medllm.evaluate.records import read_asked
from medllm.evaluate.summary import Score, footnotes, is_above_trivial, table_of
from medllm.measures.gates import Check, Subject
from medllm.places import short_ref
from medllm.reports.page import Page

Analysis = Mapping[str, Any]
HOW = {"engine": "engine", "computed_in": "computed in", "n_ctx": "context", "items": "items",
       "groups": "groups", "chat_template": "chat template", "num_fewshot": "worked examples",
       "cut": "prompts cut"}  # fmt: skip
"""What is told of how a model was asked, by the key of its score."""


IDEAL = ((0.0, 0.0), (100.0, 100.0))
"""The line on which answers are right as often as they are sure."""


def build_page(
    config: EvaluateConfig,
    scores: Sequence[Score],
    analysis: Analysis,
    checks: Sequence[tuple[Subject, Check]],
    folder: Path | None = None,
) -> Page:
    """The page of an evaluation, whose records lie in `folder`."""
    about = {
        "models": ", ".join(dict.fromkeys(score["model"] for score in scores)),
        "tasks": ", ".join(dict.fromkeys(score["task"] for score in scores)),
        "data": short_ref(config.data),
        "baseline": analysis["baseline"],
        "gate": short_ref(config.gate),
        "recipe": config.recipe,
    }
    page = Page("Evaluation", _lead(scores, analysis, checks), about)
    _add_checks(page, checks)
    page.heading("Scores")
    columns, rows = table_of(scores)
    page.table(columns, rows)
    page.text(
        "Below each score stands its 95 % interval: exact for shares, else "
        "bootstrapped; over patients or whatever groups repeat."
    )
    for line in filter(None, footnotes(scores).split("\n")):
        page.text(line)
    for task, values in _by_task(scores):
        page.intervals(f"{task}: accuracy", values, "percent")
    _add_comparisons(page, analysis["comparisons"])
    _add_subgroups(page, analysis["subgroups"])
    _add_subjects(page, analysis["subjects"])
    _add_confidence(page, scores)
    _add_patterns(page, analysis)
    _add_kinds(page, scores, folder)
    _add_correlations(page, analysis["correlations"])
    page.heading("How they were asked")
    page.table(("model", "task", *HOW.values(), "not asked"), list(_asked(scores)))
    return page


def _lead(
    scores: Sequence[Score], analysis: Analysis, checks: Sequence[tuple[Subject, Check]]
) -> str:
    """What came out, in a few sentences."""
    told = []
    if checks:
        failed = sum(not check.passed for _, check in checks)
        told.append(f"It fails {failed} of {len(checks)} checks of the gate." if failed
                    else f"It passes the gate, all {len(checks)} checks.")  # fmt: skip
    told += _differing(analysis["comparisons"])
    guessing = {score["model"] for score in scores if not is_above_trivial(score)}
    if guessing:
        told.append(f"Not surely above guessing the most frequent label: {', '.join(guessing)}.")
    if analysis["comparisons"] and len(told) == bool(checks) + bool(guessing):
        told.append("No difference between the models is shown by these items.")
    return " ".join(told) or "The scores of each model on each task, with their 95 % intervals."


def _differing(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which models are better or worse than another on what, a sentence for those alike."""
    alike: dict[tuple[str, ...], dict[str, float]] = {}
    for row in comparisons:
        if "refused" not in row and row["conclusion"] != "no difference shown":
            key = row["conclusion"], row["baseline"] or "?", row["task"], row["measure"]
            alike.setdefault(key, {})[row["model"]] = row["p_holm"]
    for (conclusion, baseline, task, measure), p in alike.items():
        who, sure = f"{next(iter(p))} is", f"p {shown_p(max(p.values()))}"
        if len(p) > 1:
            who, sure = f"{', '.join(p)} are", f"largest {sure}"
        yield f"{who} {conclusion} than {baseline} on {task} by {measure} ({sure}, by Holm)."


def _add_checks(page: Page, checks: Sequence[tuple[Subject, Check]]) -> None:
    for subject, check in checks:
        reason = f"; {check.undecided}" if check.undecided else ""
        page.check(check.passed, f"{subject['model']}: {check}{reason}")


def _by_task(scores: Sequence[Score]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each task with accuracies the values of its models, and the trivial one."""
    for task in dict.fromkeys(score["task"] for score in scores):
        own = [score for score in scores if score["task"] == task and "accuracy" in score]
        values = {score["model"]: scaled_ends(_accuracy(score), 100) for score in own}
        if own:
            trivial = 100 * own[0]["majority"]
            yield task, {**values, MOST_FREQUENT: (trivial, trivial, trivial)}


def _accuracy(score: Score) -> dict[str, Any]:
    return {
        "value": score["accuracy"],
        "low": score["accuracy_low"],
        "high": score["accuracy_high"],
    }


def _add_comparisons(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    page.heading("Paired, item by item")
    for task in dict.fromkeys(row["task"] for row in rows):
        columns, shown, title = comparisons_of([row for row in rows if row["task"] == task])
        page.text(title[:1].upper() + title[1:])
        page.table(columns, shown)
    for row in rows:
        if "refused" in row:
            on = " ".join(filter(None, [row["task"], row.get("measure")]))
            page.check(False, f"{row['model']}, {on}: not compared: {row['refused']}")
    page.text(EXPLAINED)
    for unit in dict.fromkeys(row["unit"] for row in rows if "refused" not in row):
        scale, shown_in = (100, "points of accuracy") if unit == "share" else (1, unit)
        page.intervals(f"Difference, {shown_in}", _differences(rows, unit, scale), shown_in)


def _differences(
    rows: Sequence[Mapping[str, Any]], unit: str, scale: float
) -> dict[str, tuple[float, float, float]]:
    own = [row for row in rows if row.get("unit") == unit]
    return {
        f"{row['model']}, {row['task']} {row['measure']}": scaled_ends(row["difference"], scale)
        for row in own
    }


def _add_subgroups(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    page.heading("Subgroups")
    page.table(*subgroups_of(rows))
    page.text(OF_SUBGROUPS.format(FEW))
    for key in dict.fromkeys((row["task"], row["by"], row["unit"]) for row in rows):
        own = [row for row in rows if (row["task"], row["by"], row["unit"]) == key]
        scale = 100 if key[2] == "share" else 1
        values = {f"{row['group']}, {row['model']}": scaled_ends(row, scale) for row in own}
        unit = "percent" if scale == 100 else key[2]
        page.intervals(f"{key[0]} by {key[1]}", values, unit)


def _add_subjects(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Of each model and task the subjects, those with the lowest scores first."""
    if not rows:
        return
    page.heading("By subject")
    shown = [
        (row["model"], row["task"], row["subject"], row["items"], _rate(row),
         "" if row["gained"] is None else f"{row['gained']} / {row['lost']}")
        for row in rows
    ]  # fmt: skip
    page.table(("model", "task", "subject", "n", "right, 95 %", "gained / lost"), shown)


def _add_confidence(page: Page, scores: Sequence[Score]) -> None:
    """Of each task how right answers of each confidence are, and the risk by coverage."""
    told = [score for score in scores if score.get("calibration_bins")]
    for task in dict.fromkeys(score["task"] for score in told):
        own = [score for score in told if score["task"] == task]
        page.heading(f"Confidence: {task}")
        rows = [(score["model"], score["calibration_error"], score["risk_area"]) for score in own]
        page.table(("model", "calibration error", "area of risk by coverage"), rows)
        bins = {score["model"]: [(100 * each["confidence"], 100 * each["accuracy"])
                                 for each in score["calibration_bins"]]
                for score in own}  # fmt: skip
        page.curves(f"{task}: right answers by confidence", {**bins, "as it should be": IDEAL},
                    "confidence, percent", "right, percent", dots=bins)  # fmt: skip
        risks = {score["model"]: [(100 * each["coverage"], 100 * each["risk"])
                                  for each in score["risk_coverage"]]
                 for score in own}  # fmt: skip
        page.curves(f"{task}: wrong among the surest answers", risks, "the surest, percent of all",
                    "wrong, percent")  # fmt: skip


def _add_correlations(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    page.heading("What goes together")
    page.table(
        ("model", "task", "of an answer", "with its", "n", "rank correlation, 95 %"),
        [(row["model"], row["task"], row["of"], row["with"], row["items"],
          f"{row['value']:+.2f} ({interval_of(row, 1, 2, '+')})") for row in rows],
    )  # fmt: skip
    page.text(
        "Spearman's correlation over the items; ratio is the length of the answer beside the "
        "source, length_ratio beside the reference. What goes together need not cause each other."
    )


def _add_patterns(page: Page, analysis: Analysis) -> None:
    if analysis["patterns"]:
        page.heading("Patterns of errors")
        rows = [
            (row["model"], row["task"], row["pattern"], row["definition"], row["of"],
             _rate(row["rate"]), row["try"])
            for row in analysis["patterns"]
        ]  # fmt: skip
        page.table(("model", "task", "pattern", "what", "of", "rate, 95 %", "to try"), rows)
    for row in analysis["items"]:
        if row["worst"]:
            page.heading(f"Best and worst items: {row['model']}, {row['task']}")
            page.text(f"By {row['unit']}.")
            pairs = zip(row["worst"], row["best"], strict=True)
            page.table(("worst", "", "best", " "), [(*one, *other) for one, other in pairs])


def _add_kinds(page: Page, scores: Sequence[Score], folder: Path | None) -> None:
    """What the kinds of some tasks have to tell of the records."""
    for score in scores:
        kind = KINDS[score["kind"]]
        path = (folder or Path()) / score["model"] / f"{score['task']}.jsonl"
        if folder and isinstance(kind, Tells) and path.is_file():
            page.heading(f"{score['model']}, {score['task']}")
            kind.tell(page, score, list(read_asked(path)))


def _rate(rate: Mapping[str, Any]) -> str:
    value, low, high = scaled_ends(rate, 100)
    return f"{value:.1f} % ({low:.1f}–{high:.1f})" if rate["low"] is not None else f"{value:.1f} %"


def _asked(scores: Sequence[Score]) -> Iterator[tuple[Any, ...]]:
    for score in scores:
        if "tasks" not in score:  # a mean of tasks was asked as these were
            told = (score.get(key, "") for key in HOW)
            lost = sum(score.get("not_asked", {}).values())
            yield score["model"], score["task"], *told, lost
