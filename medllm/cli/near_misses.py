"""What was most likely meant by a command, an option, a value or a bare argument that is wrong.

The words of other tools stand in `near_misses.json`: what a name here is called there. All is
compared without case, hyphens and underscores.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from medllm.cli.commands import EVERYWHERE
from medllm.cli.names import FILES, list_names, list_shipped
from medllm.errors import ConfigError, did_you_mean

DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".xml")


@cache
def _words() -> Mapping[str, Any]:
    path = Path(__file__).with_name("near_misses.json")
    words: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return words


def squeeze(word: str) -> str:
    """A word without case, hyphens, underscores and dots."""
    return re.sub(r"[-_.\s]", "", word).lower()


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


def meant_command(word: str, known: Iterable[str]) -> str:
    """The command that another tool calls so, or that is written alike, as a question."""
    squeezed = squeeze(word)
    found = next((name for name, others in _words()["commands"].items() if squeezed in others), "")
    return f"did you mean `medllm {found}`? " if found else did_you_mean(squeezed, known)


def meant_format(word: str, formats: Sequence[str], types: Sequence[str]) -> str:
    """The flags of `medllm quantize` that a format of another tool stands for, as a question."""
    squeezed = squeeze(word)
    flags: list[str] = []
    for pattern, templates in _words()["formats"]:
        if found := re.fullmatch(pattern, squeezed):
            flags += [found.expand(template) for template in templates]
    gguf = [each for each in types if each.isupper()]
    named = (each for each in gguf if squeezed in (squeeze(each), f"gguf{squeeze(each)}"))
    flags = [f"--format gguf --type {each}" for each in named] or flags
    if not flags:
        return did_you_mean(squeezed, formats)
    return f"did you mean {' or '.join(f'`{each}`' for each in flags)}? "


def meant_option(
    option: str, value: str, own: Sequence[str], find_keys: Callable[[str], Sequence[str]]
) -> str:
    """What to write instead of an option, as a question; `find_keys` gives the recipe's keys."""
    squeezed = squeeze(option)
    others = (name for name, words in _words()["options"].items() if squeezed in words)
    for name in (squeezed, *others):
        for known in own:
            if squeeze(known) == squeeze(name):
                return f"did you mean `{f'{known} {value}'.strip()}`? "
        for key in find_keys(name):
            if "[]" in key:
                return f"did you mean the key `{key}` of a recipe? "
            return f"did you mean `--set {key}={value or '…'}`? "
    return did_you_mean(option, own)


KINDS: dict[str, Callable[[Path], bool]] = {
    "recipe": lambda path: path.suffix in {".yaml", ".yml"},
    "adapter": lambda path: (path / "adapter_config.json").is_file(),
    "data": lambda path: (path / "train.jsonl").is_file(),
    "calibration": lambda path: (path / "calibration.jsonl").is_file(),
    "model": lambda path: path.suffix == ".gguf" or (path / "config.json").is_file(),
    "input": lambda path: path.suffix in DATA_FILES,
    "dataset": lambda path: path.suffix in DATA_FILES or path.is_dir(),
}
"""What a path is, as far as its name and its folder show; the first that fits."""
HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
TAKES = {
    "--adapter": "adapter", "--data": "data", "--calibration": "calibration", "--model": "model",
    "--input": "input", "--mix": "mix", "--dataset": "dataset", "--tasks": "task",
    "--task": "task", "--config": "recipe",
}  # fmt: skip
"""Option → the kind of what it takes."""


def meant_argument(word: str, own: Sequence[str]) -> str:
    """The option that a bare argument was most likely meant for, as a question."""
    for option, kind in TAKES.items():
        is_name = word in list_names(kind) or (kind == "model" and re.fullmatch(HUB_ID, word))
        if option in own and (is_name or (kind in KINDS and KINDS[kind](Path(word)))):
            return f"did you mean `{option} {word}`? "
    return f'did you mean `--prompt "{word}"`? ' if "--prompt" in own and " " in word else ""


def check_models(given: Mapping[str, Any]) -> None:
    """Raise ConfigError where a model is named as a dataset, a mix, a task or a recipe is."""
    for option in ("model", "models", "tokenizer"):
        named = given.get(option) or ()
        for name in [named] if isinstance(named, str) else named:
            uses = [_words()["uses"][kind] for kind in FILES if name in list_shipped(kind)]
            if uses and not Path(name).exists():
                message = f"'{name}' is the name of no model: {uses[0].partition(': ')[0]}"
                fix = "; ".join(use.partition(": ")[2].replace("NAME", name) for use in uses)
                raise ConfigError(message, f"name a folder, a .gguf file or ORG/MODEL; {fix}")
