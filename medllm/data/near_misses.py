"""What was most likely meant by a command, an option, a value or a bare argument that is wrong.

The words of other tools stand in `near_misses.json`: what a name here is called there. All is
compared without case, hyphens and underscores.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from medllm.data.groups import squeeze
from medllm.data.names import list_names
from medllm.errors import did_you_mean

DATA_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".xml")


@cache
def words_of_others() -> Mapping[str, Any]:
    """Names here, and what other tools call them; patterns of formats; uses of names."""
    path = Path(__file__).with_name("near_misses.json")
    words: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return words


def meant_command(word: str, known: Iterable[str]) -> str:
    """The command that another tool calls so, or that is written alike, as a question."""
    squeezed = squeeze(word)
    found = next(
        (name for name, others in words_of_others()["commands"].items() if squeezed in others), ""
    )
    return f"did you mean `medllm {found}`? " if found else did_you_mean(squeezed, known)


def meant_format(word: str, formats: Sequence[str], types: Sequence[str]) -> str:
    """The flags of `medllm quantize` that a format of another tool stands for, as a question."""
    squeezed = squeeze(word)
    flags: list[str] = []
    for pattern, templates in words_of_others()["formats"]:
        if found := re.fullmatch(pattern, squeezed):
            flags += [found.expand(template) for template in templates]
    named = (each for each in types if squeezed in (squeeze(each), f"gguf{squeeze(each)}"))
    flags = [f"--format gguf --type {each}" for each in named] or flags
    if not flags:
        return did_you_mean(squeezed, formats)
    return f"did you mean {' or '.join(f'`{each}`' for each in flags)}? "


def meant_option(
    option: str, value: str, own: Sequence[str], find_keys: Callable[[str], Sequence[str]]
) -> str:
    """What to write instead of an option, as a question; `find_keys` gives the recipe's keys."""
    squeezed = squeeze(option)
    others = (name for name, words in words_of_others()["options"].items() if squeezed in words)
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
