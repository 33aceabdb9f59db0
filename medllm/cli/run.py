"""`medllm run`."""

from typing import Any

import typer

from medllm.cli.names import completer
from medllm.cli.options import DATA_USE, DRY_RUN, OVERWRITE, SET, option, takes
from medllm.cli.voice import places_only


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
    from medllm.models.load import TINY
    from medllm.plan import show_plan
    from medllm.recipe import load_recipe
    from medllm.run import run_recipe

    agreements = {"data_use": flags["data_use"]} if flags["data_use"] else {}
    recipe = load_recipe(config, flags["set_"] or (), agreements)
    if smoke:
        from medllm.smoke import make_small

        recipe = make_small(recipe)
    if flags["dry_run"]:
        show_plan(recipe, from_, only)
        return
    with places_only():
        run_recipe(recipe, start=from_, only=only, overwrite=bool(flags["overwrite"]))
    console.report(root=recipe.root)
    console.say(f"everything lies in {recipe.root}")
    if recipe.study or "--quiet" in console.wanted:
        return
    console.say(f"ask it:            medllm serve --config {config}")
    if recipe.model == TINY:
        console.say("its model is tiny and knows nothing: it shows that all works, no more")
        console.say(
            f"with a real model: medllm run --config {config} --set model=DIR --set name=mine"
        )
