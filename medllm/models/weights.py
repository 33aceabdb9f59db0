"""Whether the files of weights in a model folder are there and whole, told from their headers."""

import json
from pathlib import Path

from medllm.errors import ArtifactError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def check_weights(folder: Path) -> None:
    """Raise ArtifactError unless all weights of a model folder are there, and no file is cut off.

    Nothing but headers is read, so it takes no time.
    """
    from safetensors import SafetensorError, safe_open

    for name in _shards(folder):
        path = folder / name
        if not path.is_file():
            message = f"{folder}: its weights are not whole: {name} is missing"
            raise ArtifactError(message, "get it again from the model's source, as safetensors")
        try:
            with safe_open(path, "np"):
                pass
        except SafetensorError as problem:
            message = f"{path} is cut off or broken: {problem}"
            raise ArtifactError(message, "get it again from the model's source") from problem


def _shards(folder: Path) -> list[str]:
    index = folder / INDEX
    if (folder / SINGLE).is_file() or not index.is_file():
        return [SINGLE]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ArtifactError(f"{index} is broken: {problem}", "restore it") from problem
