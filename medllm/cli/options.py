"""Options that several commands share, and the way from flags to a verb's configuration."""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from typing import Any

import typer

from medllm.cli.voice import places_only
from medllm.data.names import completer
from medllm.errors import ConfigError

Command = Callable[..., None]


def option(
    help: str, metavar: str | None = None, name: str | None = None, takes: str | None = None
) -> Any:
    """A flag that may be left out; its default is stated in the help, for the recipe may set it.

    Without a name it is called as the parameter. A shell completes the words of a metavar like
    `a|b`, or the names of the kind that it `takes` (`names.py`).
    """
    kind = takes or (metavar if metavar and "|" in metavar else None)
    return typer.Option(
        None,
        *((name,) if name else ()),
        help=help,
        metavar=metavar,
        show_default=False,
        autocompletion=completer(kind) if kind else None,
    )


def _shared(key: str, kind: Any, *described: Any) -> Parameter:
    default = option(*described)
    return Parameter(key, Parameter.KEYWORD_ONLY, annotation=kind | None, default=default)


MODEL = option(
    "Hub id, model or adapter folder, .gguf file.  [default: medllm/tiny]", "REF", takes="model"
)
ASKED = option(
    "Hub id, model or adapter folder, .gguf file, address.  [default: medllm/tiny]", "REF",
    takes="model",
)  # fmt: skip
BASE = option("Hub id or model folder.  [default: medllm/tiny]", "REF", takes="model")
SEED = _shared("seed", int, "Seed of everything random.  [default: 0]")
DATA_USE = _shared(
    "data_use", list[str], "A data use agreement that you have signed.", "NAME", "--accept-terms"
)
DATA_DIR = _shared("data_dir", str, "Folder with raw files, one folder a dataset.", "DIR")
CONFIG = _shared(
    "config", str, "A recipe: a file, or the name of a shipped one.", "FILE_OR_NAME", None, "recipe"
)
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


def refuse_unread(context: typer.Context, mode: str, given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a flag that is given beside one with which it does nothing."""
    unread = {key for key, value in given.items() if value is not None and value is not False}
    if unread:
        named = ", ".join(each.opts[0] for each in context.command.params if each.name in unread)
        raise ConfigError(f"{named}: {mode} does not read it", f"leave out {named}")


def run_verb(verb: str, flags: dict[str, Any], **own: Any) -> None:
    """Run one verb with a recipe's section and flags on top, and show what it made.

    `own` and `flags` are named as the keys of the section; None means not given.
    """
    from medllm.cli.dry_run import plan_verb
    from medllm.cli.near_misses import check_models
    from medllm.plan import recipe_of_flags
    from medllm.run import run_verb as run

    check_models(own)
    recipe = recipe_of_flags(verb, flags, **own)
    if flags["dry_run"]:
        plan_verb(recipe, verb)
    elif verb == "serve" or getattr(recipe.section(verb), "prompt", None):
        run(recipe, verb)  # what it shows lies nowhere
    else:
        with places_only():
            run(recipe, verb)
