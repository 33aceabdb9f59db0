"""`medllm recipes`."""

from pathlib import Path
from typing import Annotated

import typer

from medllm import console
from medllm.cli.commands import Command, Group
from medllm.data.names import completer

app = typer.Typer(
    cls=Group,
    suggest_commands=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The recipes that ship with medllm.",
)
Name = Annotated[str, typer.Argument(help="Name of a recipe.", autocompletion=completer("recipe"))]


@app.command("list", cls=Command)
def list_() -> None:
    """Show all recipes.

    Example: medllm recipes list
    """
    from medllm.config.loader import read_yaml
    from medllm.recipe import list_recipes

    found = [
        {"name": name, "path": path, "description": read_yaml(path).data.get("description", "")}
        for name, path in list_recipes().items()
    ]
    console.report(recipes=found)
    rows = [(each["name"], each["description"]) for each in found]
    console.table(("recipe", "what it is for"), rows)


@app.command(cls=Command)
def show(name: Name) -> None:
    """Show one recipe.

    Example: medllm recipes show quickstart
    """
    from medllm.config.dialect import read_text
    from medllm.config.loader import read_yaml
    from medllm.recipe import find_recipe

    path = find_recipe(name)
    console.report(name=path.stem, path=path, recipe=read_yaml(path).data)
    console.say(read_text(path).rstrip())


@app.command(cls=Command)
def copy(
    name: Name,
    target: Annotated[
        Path | None,
        typer.Argument(help="File to write.  [default: <name>.yaml here]", show_default=False),
    ] = None,
) -> None:
    """Copy a recipe to a file of your own, to change it; `deploy`: the folder for deploying.

    Example: medllm recipes copy quickstart mine.yaml
    """
    from medllm.recipe import DEPLOY, LAUNCHES, copy_recipe, find_recipe

    path = copy_recipe(name, target)
    use = f"medllm run --config {path}"
    if name == DEPLOY.name:
        use = f"medllm serve --config {path / 'serve.yaml'}"
    elif find_recipe(name).parent == LAUNCHES:
        use = f"accelerate launch --config_file {path} -m medllm finetune --config RECIPE"
    console.report(path=path, use=use)
    console.say(f"wrote {path}; run it with: {use}")
