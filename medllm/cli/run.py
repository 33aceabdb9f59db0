"""`medllm run`."""

import typer

from medllm.cli import options
from medllm.cli.options import option


def run(
    config: str = typer.Option(
        ..., "--config", metavar="RECIPE", help="A recipe: a file, or the name of a shipped one."
    ),
    from_: str | None = option("--from", "Begin at this verb.", "VERB"),
    only: str | None = option("--only", "Run just this verb.", "VERB"),
    set_: list[str] | None = options.SET,
    data_use: list[str] | None = options.ACCEPT_TERMS,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Walk a whole recipe; what is finished and unchanged is skipped.

    Example: medllm run --config quickstart
    """
    from medllm import console
    from medllm.recipe import load_recipe
    from medllm.run import render_plan, run_recipe

    shared = options.flags_document("", {"data_use": data_use})
    recipe = load_recipe(config, set_ or (), shared)
    if dry_run:
        console.say(render_plan(recipe, recipe.verbs))
        return
    run_recipe(recipe, start=from_, only=only, overwrite=overwrite)
    console.say(f"everything lies in {recipe.root}")
    console.say(f"ask it:            medllm serve --config {config}")
    if recipe.model == "medllm/tiny":
        console.say("its model is tiny and knows nothing: it shows that all works, no more")
        console.say(
            f"with a real model: medllm run --config {config} --set model=DIR --set name=mine"
        )
