"""`medllm recipes`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The recipes that ship with medllm."
)
Name = Annotated[str, typer.Argument(help="Name of a recipe.")]


@app.command("list")
def list_() -> None:
    """Show all recipes.

    Example: medllm recipes list
    """
    from medllm import console
    from medllm.config.loader import read_yaml
    from medllm.recipe import list_recipes

    rows = [
        (name, read_yaml(path).data.get("description", "")) for name, path in list_recipes().items()
    ]
    console.table(("recipe", "what it is for"), rows)


@app.command()
def show(name: Name) -> None:
    """Show one recipe.

    Example: medllm recipes show quickstart
    """
    from medllm import console
    from medllm.config.dialect import read_text
    from medllm.recipe import find_recipe

    console.say(read_text(find_recipe(name)).rstrip())


@app.command()
def copy(
    name: Name,
    target: Annotated[
        Path | None,
        typer.Argument(help="File to write.  [default: <name>.yaml here]", show_default=False),
    ] = None,
) -> None:
    """Copy a recipe to a file of your own, to change it.

    Example: medllm recipes copy quickstart mine.yaml
    """
    from medllm import console
    from medllm.config.base import is_there
    from medllm.config.dialect import read_text
    from medllm.errors import ConfigError
    from medllm.recipe import LAUNCHES, find_recipe

    source = find_recipe(name)
    path = target or Path(f"{source.stem}.yaml")
    if path.is_dir():
        path = path / f"{source.stem}.yaml"
    if is_there(path):
        raise ConfigError(f"{path} exists", "choose another file name")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder", "make it first")
    path.write_text(read_text(source), encoding="utf-8")
    use = f"medllm run --config {path}"
    if source.parent == LAUNCHES:
        use = f"accelerate launch --config_file {path} -m medllm finetune --config RECIPE"
    console.say(f"wrote {path}; run it with: {use}")
