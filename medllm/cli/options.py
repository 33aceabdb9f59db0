"""Options that several commands share, and the way from flags to a verb's configuration."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medllm.recipe import Recipe

Command = Callable[..., None]


def option(help: str, metavar: str | None = None, name: str | None = None) -> Any:
    """A flag that may be left out; its default is stated in the help, for the recipe may set it.

    Without a name it is called as the parameter.
    """
    names = (name,) if name else ()
    return typer.Option(None, *names, help=help, metavar=metavar, show_default=False)


def _shared(key: str, kind: Any, *described: Any) -> Parameter:
    default = option(*described)
    return Parameter(key, Parameter.KEYWORD_ONLY, annotation=kind | None, default=default)


MODEL = option("Hub id, model or adapter folder, .gguf file.  [default: medllm/tiny]", "REF")
BASE = option("Hub id or model folder.  [default: medllm/tiny]", "REF")
SEED = _shared("seed", int, "Seed of everything random.  [default: 0]")
DATA_USE = _shared(
    "data_use", list[str], "A data use agreement that you have signed.", "NAME", "--accept-terms"
)
DATA_DIR = _shared("data_dir", str, "Folder with raw files, one folder a dataset.", "DIR")
CONFIG = _shared("config", str, "A recipe: a file, or the name of a shipped one.", "FILE_OR_NAME")
SET = _shared(
    "set_", list[str], "Set any key of the recipe; the value is YAML.", "KEY=VALUE", "--set"
)
OUTPUT = _shared("output", str, "Folder of the result.  [default: runs/<recipe>/<command>]", "DIR")
OVERWRITE = _shared(
    "overwrite", bool, "Replace another result of medllm there.", None, "--overwrite"
)
DRY_RUN = _shared("dry_run", bool, "Show configuration and estimates, and stop.", None, "--dry-run")
READING = (SEED, DATA_USE, DATA_DIR)
WRITING = (CONFIG, SET, OUTPUT, OVERWRITE, DRY_RUN)


def takes(*shared: Parameter) -> Callable[[Command], Command]:
    """A decorator: the command takes these options too, and gets them as its `**flags`."""

    def decorate(command: Command) -> Command:
        own = signature(command).parameters.values()
        named = [parameter for parameter in own if parameter.kind is not Parameter.VAR_KEYWORD]
        command.__signature__ = Signature([*named, *shared])  # type: ignore[attr-defined]
        return command

    return decorate


def run_verb(verb: str, flags: dict[str, Any], **own: Any) -> None:
    """Run one verb with a recipe's section and flags on top, and show what it made.

    `own` and `flags` are named as the keys of the section; None means not given.
    """
    from medllm import console
    from medllm.plan import render_plan
    from medllm.run import run_verb as run

    recipe = load_recipe_for(verb, flags, **own)
    if flags["dry_run"]:
        console.say(render_plan(recipe, (verb,)))
    else:
        run(recipe, verb)


def load_recipe_for(verb: str, flags: dict[str, Any], **own: Any) -> "Recipe":
    """The recipe with flags on top; where nobody names a model, the built-in one, which is said."""
    from medllm import console
    from medllm.models.load import TINY
    from medllm.recipe import load_recipe, uses_model

    given = {
        f"{verb}.{key.rstrip('_')}": value
        for key, value in {**own, **flags}.items()
        if value not in (None, []) and key not in {"config", "set_", "dry_run"}
    }
    recipe = load_recipe(flags["config"], flags["set_"] or (), given)
    section = getattr(recipe, verb)
    named = {"model", "models", "tokenizer"} & (section.model_fields_set if section else set())
    if recipe.model is None and not named and verb not in {"merge", "prepare"}:
        recipe = recipe.model_copy(update={"model": TINY})
        if uses_model(recipe, verb, TINY):
            console.notice(f"no model is named: using the built-in {TINY}; name yours with --model")
    return recipe
