"""What was most likely meant where the parser, or a model's name, is refused."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm.cli.commands import EVERYWHERE
from medllm.data.groups import squeeze
from medllm.data.names import FILES, list_shipped
from medllm.data.near_misses import meant_argument, meant_command, meant_option, words_of_others
from medllm.errors import ConfigError


def meant_by(message: str, command: Any, arguments: Sequence[str]) -> str:
    """What was meant, as a question and a space, where a parser refuses a command line."""
    own = [name for parameter in command.params for name in parameter.opts if name[:2] == "--"]
    own += EVERYWHERE
    if found := re.match(r"no such command '(.*)'", message):
        return meant_command(found[1], command.commands)
    if found := re.match(r"no such option: (\S+)", message):
        return meant_option(found[1], _value_of(found[1], arguments), own, _keys_of(command.name))
    bare = re.findall(r"got unexpected extra argument\S* \((.*)\)", message)
    if message.startswith("missing option"):
        bare = [word for word in arguments[1:] if not word.startswith("-")]
    return next(filter(None, (meant_argument(word, own) for word in bare)), "")


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """What follows an option, after `=` or as the next argument."""
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return shlex.quote(argument.partition("=")[2])
        if argument == option and not "".join(arguments[number + 1 : number + 2]).startswith("--"):
            return shlex.quote(arguments[number + 1]) if arguments[number + 1 :] else ""
    return ""


def _keys_of(command: str) -> Callable[[str], list[str]]:
    """What finds the keys of a recipe that a command reads, by the squeezed last part of each."""

    def find(name: str) -> list[str]:
        from medllm.config.base import models_in
        from medllm.config.loader import key_paths
        from medllm.recipe import ROAD, Recipe

        verbs = [command] if command in ROAD else ROAD if command == "run" else ()
        models = {verb: [*models_in(Recipe.model_fields[verb].annotation)][0] for verb in verbs}
        paths = (f"{verb}.{path}" for verb in verbs for path in key_paths(models[verb]))
        return [path for path in paths if squeeze(path.rpartition(".")[2]) == squeeze(name)]

    return find


def check_models(given: Mapping[str, Any]) -> None:
    """Raise ConfigError where a model is named as a dataset, a mix, a task or a recipe is."""
    for option in ("model", "models", "tokenizer"):
        named = given.get(option) or ()
        for name in [named] if isinstance(named, str) else named:
            uses = [words_of_others()["uses"][kind] for kind in FILES if name in list_shipped(kind)]
            if uses and not Path(name).exists():
                message = f"'{name}' is the name of no model: {uses[0].partition(': ')[0]}"
                fix = "; ".join(use.partition(": ")[2].replace("NAME", name) for use in uses)
                raise ConfigError(message, f"name a folder, a .gguf file or ORG/MODEL; {fix}")
