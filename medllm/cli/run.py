"""`medllm run`."""

import json
from typing import TYPE_CHECKING, Any

import typer

from medllm.cli.options import DATA_USE, DRY_RUN, OVERWRITE, SET, option, takes
from medllm.cli.voice import places_only
from medllm.data.names import completer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medllm.recipe import Recipe


@takes(SET, DATA_USE, OVERWRITE, DRY_RUN)
def run(
    config: str = typer.Option(
        ...,
        "--config",
        metavar="RECIPE",
        help="A recipe: a file, or the name of a shipped one.",
        autocompletion=completer("recipe"),
    ),
    from_: str | None = option("Begin at this verb.", "VERB", "--from", "verb"),
    only: str | None = option("Run just this verb.", "VERB", None, "verb"),
    smoke: bool = typer.Option(
        False, "--smoke", help="Walk it with a tiny random model of the same kind and a few rows."
    ),
    **flags: Any,
) -> None:
    """Walk a whole recipe; what is finished and unchanged is skipped.

    Example: medllm run --config quickstart
    """
    from medllm import console
    from medllm.cli.dry_run import plan_walk
    from medllm.places import short_path
    from medllm.recipe import load_recipe
    from medllm.run import run_recipe

    agreements = {"data_use": flags["data_use"]} if flags["data_use"] else {}
    recipe = load_recipe(config, flags["set_"] or (), agreements)
    if smoke:
        from medllm.smoke import make_small

        recipe = make_small(recipe)
    if flags["dry_run"]:
        plan_walk(recipe, from_, only)
        return
    with places_only():
        run_recipe(recipe, start=from_, only=only, overwrite=bool(flags["overwrite"]))
    console.report(root=recipe.root)
    console.say(f"everything lies in {short_path(recipe.root)}")
    if not recipe.study and "--quiet" not in console.wanted:
        _show_outcome(recipe)
        _show_next(recipe, config)


def _show_outcome(recipe: "Recipe") -> None:
    """What came of the walk: the models in a line each, on the first task."""
    from medllm import console
    from medllm.artifacts.manifest import NAME, Manifest
    from medllm.evaluate.analyze import NAME as ANALYSIS
    from medllm.evaluate.summary import first_task, footnotes, standing, verdict
    from medllm.recipe import outputs_of

    (folder,) = outputs_of(recipe, "evaluate")
    if not (recipe.evaluate and recipe.model and (folder / NAME).is_file()):
        return
    base = recipe.model.rstrip("/").rpartition("/")[2]
    scores = Manifest.read(folder).results["scores"]
    compared = json.loads((folder / ANALYSIS).read_text(encoding="utf-8"))["comparisons"]
    console.table(
        *standing(scores, base), "\nwhat came of it, on held-out items, with 95 % intervals"
    )
    for said in filter(None, (footnotes(first_task(scores)), verdict(scores, compared, base))):
        console.say(said)
    _show_gain(outputs_of(recipe, "quantize"))


def _show_gain(folders: "Sequence[Path]") -> None:
    """What calibration gained, where a format was made with and without it."""
    from medllm import console
    from medllm.artifacts.manifest import Manifest

    for folder in folders:
        plain = folder.with_name(f"{folder.name}-no-imatrix")
        if plain in folders:
            with_, without = (Manifest.read(each).results["kl_mean"] for each in (folder, plain))
            console.say(
                f"Calibration: {folder.name} strays {with_:.3f} nats a token from its parent;\n"
                f"the same format without calibration {without:.3f} (0 is none)."
            )


def _show_next(recipe: "Recipe", config: str) -> None:
    from medllm import console
    from medllm.models.load import TINY

    steps = {f"medllm serve --config {config}": "ask the model yourself"}
    if recipe.model == TINY:
        console.say("The model is tiny and its notes are generated: this shows the road, no more.")
        steps |= {
            "medllm prepare --dataset FILE": "look at data of your own",
            f"medllm recipes copy {config} mine.yaml": "a recipe for your model and data",
            "medllm run --config mine.yaml": "walk it",
        }
    console.say("\nnext:", "title")
    for command, why in steps.items():
        console.say(f"  {command:<42} {why}")
