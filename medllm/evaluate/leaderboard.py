"""Scores of several evaluations side by side: only those that were asked alike."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.config.base import is_there
from medllm.errors import ArtifactError
from medllm.evaluate.analysis.baseline import ASKED, compare_among
from medllm.evaluate.analysis.outcomes import LOSS, Evaluation, Outcomes, Score, read_outcomes
from medllm.evaluate.analysis.shown import interval_of, scaled_ends, shown_p
from medllm.evaluate.kinds import KINDS
from medllm.evaluate.summary import MARK, is_above_trivial
from medllm.places import short_ref
from medllm.reports.page import Page

NAME = "leaderboard"
EXPLAINED = (
    "Beside the best: the difference on the same items with its 95 % interval, and p by Holm. "
    f"{MARK} not above what always giving the most frequent label scores."
)


@dataclass(frozen=True)
class Entry:
    """A score, of which evaluation it is, and how it was asked."""

    folder: Path
    score: Score
    outcomes: Outcomes | None
    asked: Hashable

    @property
    def measure(self) -> str:
        """Which of its numbers it is ranked by."""
        return KINDS[self.score["kind"]].measure

    @property
    def rank(self) -> float:
        """The better the smaller."""
        value: float = self.score[self.measure]
        is_better = getattr(KINDS[self.score["kind"]], "higher_is_better", True)
        return -value if is_better else value


def build_leaderboard(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The boards: of each task the scores that were asked alike, the best first.

    Raises:
        ArtifactError: a folder is no evaluation, or was altered.
    """
    entries = [entry for folder in folders for entry in _entries(folder)]
    boards: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        boards.setdefault((entry.score["task"], entry.measure, entry.asked), []).append(entry)
    ordered = sorted(boards.values(), key=lambda board: (board[0].score["task"], -len(board)))
    return [_board(sorted(board, key=lambda entry: entry.rank)) for board in ordered]


def _entries(folder: Path) -> list[Entry]:
    found = Evaluation.open(folder, "evaluation")
    read = {_key(score): read_outcomes(folder, score) for score in found.scores}
    asked = {key: _asked(each) for key, each in read.items() if each}
    return [
        Entry(
            folder,
            score,
            read[_key(score)],
            asked.get(_key(score))
            or tuple(asked.get((score["model"], task)) for task in score.get("tasks", ()))
            or str(folder),  # of what has no records nothing is known
        )
        for score in found.scores
        if score.get(KINDS[score["kind"]].measure) is not None
    ]


def _key(score: Score) -> tuple[str, str]:
    return score["model"], score["task"]


def _asked(found: Outcomes) -> Hashable:
    """What is the same of scores that may stand side by side."""
    items = frozenset((record["id"], record.get("prompt")) for record in found.records)
    how = tuple(str(found.score.get(key)) for key in ASKED)
    tokens = sum(record["weight"] for record in found.records) if found.measure == LOSS else 0
    context = found.score.get("n_ctx") if found.score.get("cut") else None
    return items, how, tokens, context, found.score.get("prompt_key")


def _board(entries: Sequence[Entry]) -> dict[str, Any]:
    best, *others = entries
    known = {"task": best.score["task"], "measure": best.measure, "items": best.score["items"]}
    first = best.outcomes
    pairs = [(first, entry.outcomes) for entry in others if first and entry.outcomes]
    compared: Sequence[dict[str, Any] | None] = compare_among(pairs)
    compared = compared or [None] * len(others)  # all have records, or none
    rows = [_row(best)]
    for entry, found in zip(others, compared, strict=True):
        rows.append({**_row(entry), "beside_best": found} if found else _row(entry))
    how = {key: best.score.get(key) for key in ("chat_template", "num_fewshot", "n_ctx", "cut")}
    return {**known, "asked": {k: v for k, v in how.items() if v is not None}, "rows": rows}


def _row(entry: Entry) -> dict[str, Any]:
    score, name = entry.score, entry.measure
    ends = {end: score.get(f"{name}_{end}") for end in ("low", "high")}
    known = {"model": score["model"], "evaluation": short_ref(entry.folder)}
    known |= {"identity": score["identity"], "bytes": score["bytes"], "value": score[name]}
    return {**known, **ends, "above_trivial": is_above_trivial(score)}


def check_page_place(output: Path | None) -> None:
    """Raise ArtifactError where a page cannot lie: a folder with other files than a leaderboard."""
    if output is None or not is_there(output):
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / f"{NAME}.json").is_file()):
        raise ArtifactError(f"{output} is not empty", "choose another --output")


def show_leaderboard(boards: Sequence[Mapping[str, Any]], output: Path | None) -> None:
    """Print the boards, and write them as a page and as JSON where a folder is named."""
    console.report(leaderboard=list(boards))
    for board, title in zip(boards, _titles(boards), strict=True):
        console.table(*_table(board), title)
    console.say(console.wrapped(EXPLAINED, ""))
    if output:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / f"{NAME}.json", boards)
        build_page(boards).write(output / f"{NAME}.html")
        console.say(f"  {output / NAME}.html")


def build_page(boards: Sequence[Mapping[str, Any]]) -> Page:
    """The boards as an HTML page, with a plot each."""
    models = {(row["model"], row["evaluation"]) for board in boards for row in board["rows"]}
    lead = f"{len(models)} models on {len({board['task'] for board in boards})} tasks."
    page = Page("Leaderboard", lead, {})
    page.text(f"Side by side stands only what was asked alike. {EXPLAINED}")
    for board, title in zip(boards, _titles(boards), strict=True):
        page.heading(title)
        page.table(*_table(board))
        scale = 100 if board["measure"] == "accuracy" else 1
        shown = {f"{row['model']} ({row['evaluation']})": scaled_ends(row, scale)
                 for row in board["rows"]}  # fmt: skip
        unit = "percent" if scale == 100 else board["measure"]
        page.intervals(title, shown, unit)
    return page


def _titles(boards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each board is of; boards of one task say how they were asked."""
    titles: list[str] = []
    for board in boards:
        told = f"{board['task']}, {board['measure']}, n = {board['items']:,}"
        if sum(other["task"] == board["task"] for other in boards) > 1:
            number = sum(title.startswith(f"{board['task']},") for title in titles) + 1
            how = ", ".join(f"{key} {value}" for key, value in board["asked"].items())
            told += f" (asked otherwise, {number}: {how})"
        titles.append(told)
    return titles


def _table(board: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    is_share = board["measure"] == "accuracy"
    scale, digits = (100, 1) if is_share else (1, 3)
    rows = []
    for row in board["rows"]:
        mark = "" if row["above_trivial"] else f" {MARK}"
        beside, p = "", ""
        if (found := row.get("beside_best")) and "refused" not in found:
            step = (100, 1) if found["unit"] == "share" else (1, 3)
            change = f"{step[0] * found['difference']['value']:+.{step[1]}f}"
            beside = f"{change} ({interval_of(found['difference'], *step, '+')})"
            p = shown_p(found["p_holm"])
        size = f"{row['bytes'] / 1e6:,.1f}" if row["bytes"] else "?"
        value = f"{scale * row['value']:.{digits}f}{mark}\n{interval_of(row, scale, digits)}"
        rows.append([row["model"], row["evaluation"], size, value, beside, p])
    unit = "%" if is_share else ""
    return ["model", "evaluation", "MB", f"{board['measure']} {unit}".strip(), "beside the best",
            "p"], rows  # fmt: skip
