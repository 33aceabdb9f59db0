"""Options that several commands share, and the way from flags to a verb's configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medllm.recipe import Recipe


def option(name: str, help: str, metavar: str | None = None) -> Any:
    """A flag that may be left out; its default is stated in the help, for the recipe may set it."""
    return typer.Option(None, name, help=help, metavar=metavar, show_default=False)


CONFIG = option("--config", "A recipe: a file, or the name of a shipped one.", "FILE_OR_NAME")
SET = option("--set", "Set any key of the recipe; the value is YAML.", "KEY=VALUE")
OUTPUT = option("--output", "Folder of the result.  [default: runs/<recipe>/<command>]", "DIR")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace another result of medllm there.")
DRY_RUN = typer.Option(False, "--dry-run", help="Show the resolved configuration and stop.")
MODEL = option(
    "--model", "Hub id, model or adapter folder, .gguf file.  [default: medllm/tiny]", "REF"
)
SEED = option("--seed", "Seed of everything random.  [default: 0]")
ACCEPT_TERMS = option("--accept-terms", "A data use agreement that you have signed.", "NAME")
DATA_DIR = option("--data-dir", "Folder with raw files, one folder a dataset.", "DIR")


def run_verb(verb: str, flags: Mapping[str, Any]) -> None:
    """Run one verb with a recipe's section and flags on top, and show what it made.

    `flags` are the command's parameters, named as the keys of the section; None means not given.
    """
    from medllm import console
    from medllm.recipe import outputs_of, wire
    from medllm.run import render_plan, show_result, verb_function

    recipe = load_recipe_for(verb, flags)
    if flags["dry_run"]:
        console.say(render_plan(recipe, (verb,)))
        return
    made = verb_function(verb)(wire(recipe, verb))
    manifests = made if isinstance(made, list) else [made] if made else []
    for manifest, folder in zip(manifests, outputs_of(recipe, verb), strict=bool(manifests)):
        show_result(manifest, folder)


def load_recipe_for(verb: str, flags: Mapping[str, Any]) -> "Recipe":
    """The recipe with flags on top; where nobody names a model, the built-in one, which is said."""
    from medllm import console
    from medllm.models.load import TINY
    from medllm.recipe import load_recipe

    recipe = load_recipe(flags["config"], flags["set_"] or (), flags_document(verb, flags))
    section = getattr(recipe, verb)
    named = {"model", "models", "tokenizer"} & (section.model_fields_set if section else set())
    if recipe.model is None and not named and verb not in {"merge", "prepare"}:
        console.notice(f"no model is named: using the built-in {TINY}; name yours with --model")
        recipe = recipe.model_copy(update={"model": TINY})
    return recipe


def flags_document(prefix: str, flags: Mapping[str, Any]) -> Any:
    """The flags that were given as a configuration document below `prefix`."""
    from medllm.config.loader import Document, assign, merge

    document = Document()
    for name, value in flags.items():
        if value is None or value is False or value == [] or name in {"config", "set_", "dry_run"}:
            continue
        key = name.rstrip("_")
        plain = str(value) if isinstance(value, Path) else value
        flag = f"--{key.replace('_', '-')}"
        dotted = ".".join(filter(None, (prefix, key)))
        document = merge(document, assign(dotted, plain, label=flag))
    return document
