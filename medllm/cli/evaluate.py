"""`medllm evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medllm import console
from medllm.cli.options import READING, WRITING, option, refuse_unread, run_verb, takes
from medllm.errors import ConfigError

READ_BY = {
    "--list": ("config", "set_"),
    "--compare": ("output",),
    "--review-sheet": ("data", "limit", "output"),
    "--ratings": ("output",),
}
"""What shows or compares instead of asking models, and the flags that it reads."""
Folders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="With --compare: evaluations; with --review-sheet: answers of generate; with "
        "--ratings: the sheet's folder, and the filled files.",
    ),
]


@takes(*READING, *WRITING)
def evaluate(
    context: typer.Context,
    folders: Folders = None,
    models: list[str] | None = option(
        "Hub id, model or adapter folder, .gguf file, http://HOST#NAME; repeatable.",
        "REF",
        "--model",
        "model",
    ),
    tasks: str | None = option("Names, with commas.  [default: answers]", "A,B", None, "task"),
    limit: int | None = option("At most so many items of each task."),
    data: str | None = option("What `medllm prepare` wrote; for `perplexity` any text.", "DIR"),
    baseline: str | None = option(
        "An earlier evaluation, or lm-eval's samples, to compare with item by item.", "DIR"
    ),
    margin: float | None = option("A loss that is still no harm: is a model non-inferior?"),
    by: list[str] | None = option(
        "Scores by a field of the rows, too, as metadata.sex; repeatable.", "FIELD", "--by"
    ),
    gate: str | None = option(
        "Thresholds that must hold: a file, or a shipped gate such as release.", "FILE_OR_NAME"
    ),
    list_: bool = typer.Option(False, "--list", help="Show all tasks, and stop."),
    compare: bool = typer.Option(
        False, "--compare", help="A leaderboard of finished evaluations; nothing is scored."
    ),
    review_sheet: bool = typer.Option(
        False, "--review-sheet", help="A blinded sheet of --limit answers for people to rate."
    ),
    ratings: bool = typer.Option(False, "--ratings", help="Read filled sheets, and unblind them."),
    **flags: Any,
) -> None:
    """Score models side by side, each score with its 95 % interval and a record of every item.

    Example: medllm evaluate --model ./base --model runs/lora/merge --tasks pubmedqa --limit 200
    """
    asked: dict[str, Any] = {"models": models, "tasks": tasks, "limit": limit, "data": data}
    asked |= {"baseline": baseline, "margin": margin, "by": by, "gate": gate}
    modes = zip(READ_BY, (list_, compare, review_sheet, ratings), strict=True)
    chosen = [mode for mode, is_on in modes if is_on]
    if len(chosen) > 1 or (folders and chosen in ([], ["--list"])):
        context.fail(f"Got unexpected extra argument(s) ({' '.join(chosen[1:] or folders or [])})")
    if not chosen:
        names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
        run_verb("evaluate", flags, **asked | {"tasks": names})
        return
    given = asked | flags
    refuse_unread(
        context, chosen[0], {key: given[key] for key in given.keys() - READ_BY[chosen[0]]}
    )
    places = [Path(folder) for folder in folders or []]
    if list_:
        show_tasks(flags)
    elif compare:
        _compare(places, flags["output"])
    elif review_sheet:
        _make_sheet(places, data, limit, flags["output"])
    else:
        _read_ratings(places, flags["output"])


def show_tasks(flags: Mapping[str, Any]) -> None:
    """Print the tasks, those of a recipe's `task_dir` with them."""
    from medllm.recipe import load_recipe
    from medllm.tasks.spec import describe_tasks

    recipe = load_recipe(flags["config"], flags["set_"] or ())
    folder = (recipe.evaluate.task_dir if recipe.evaluate else None) or recipe.task_dir
    found = describe_tasks(folder)
    console.report(tasks=found)
    shown = [[each["name"], each["asks"], each["description"]] for each in found]
    console.table(("task", "asks", "what it is"), shown)


def _compare(folders: list[Path], output: str | None) -> None:
    """Show a leaderboard.

    Raises:
        ConfigError: no folder is named.
    """
    if not folders:
        raise ConfigError("no evaluation is named", "--compare DIR DIR…")
    from medllm.evaluate.leaderboard import build_leaderboard, check_page_place, show_leaderboard

    place = Path(output) if output else None
    check_page_place(place)
    show_leaderboard(build_leaderboard(folders), place)


def _make_sheet(
    folders: list[Path], data: str | None, limit: int | None, output: str | None
) -> None:
    """Write a review sheet.

    Raises:
        ConfigError: it would have no items.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: a sheet needs an item", "--limit 50")
    from medllm.evaluate.review_sheets.sheet import make_sheet

    place = Path(data) if data else None
    make_sheet(folders, place, limit, Path(output or "runs/review_sheet"))


def _read_ratings(places: list[Path], output: str | None) -> None:
    """Show what the people who filled in a sheet say.

    Raises:
        ConfigError: no sheet or no file is named.
    """
    if len(places) < 2:
        fix = "--ratings SHEET FILE FILE…: the folder that --review-sheet wrote, and filled files"
        raise ConfigError("no filled sheet is named", fix)
    from medllm.evaluate.review_sheets.shown import read_ratings

    read_ratings(places[0], places[1:], Path(output) if output else None)
