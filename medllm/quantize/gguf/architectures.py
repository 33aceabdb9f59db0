"""Which models llama.cpp's converter can convert, told before it is started."""

import ast
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from medllm.engines.llama_cpp_setup import converter_script
from medllm.errors import ArtifactError
from medllm.models.load import read_config

TEXT, PROJECTOR = "TEXT_MODEL_MAP", "MMPROJ_MODEL_MAP"
"""Where the converter's `conversion/__init__.py` lists what it knows."""
SENSES = ("vision_config", "audio_config")
"""What the configuration of a model that sees or hears has."""


def check_architecture(model_dir: Path) -> None:
    """Raise ArtifactError where the converter does not know the model, or not all of it."""
    names = _names(read_config(model_dir))
    if not names:
        message = f"{model_dir}/config.json names no architecture"
        raise ArtifactError(message, "add `architectures`, as in the model that it was made from")
    _check_known(model_dir, "", names, TEXT)
    if has_projector(model_dir):
        _check_known(model_dir, "the images or sound of ", names, PROJECTOR)


def has_projector(model_dir: Path) -> bool:
    """Whether the model takes images or sound, through a part of its own that llama.cpp loads."""
    return any(name in read_config(model_dir) for name in SENSES)


def _check_known(model_dir: Path, what: str, names: list[str], kind: str) -> None:
    known = _known().get(kind)
    if known is None or not known.isdisjoint(names):
        return
    nearest = ", ".join(get_close_matches(names[0], sorted(known)))
    message = (
        f"{model_dir} cannot be converted to GGUF: llama.cpp's converter does not know {what}"
        f"{names[0]}, but {len(known)} others{f', such as {nearest}' if nearest else ''}"
    )
    fix = f"another --format; `{converter_script().name} --print-supported-models` lists them"
    raise ArtifactError(message, fix)


def _names(config: Mapping[str, Any]) -> list[str]:
    """The architectures of the model and of its text part."""
    parts = (config, config.get("text_config") or {})
    return [name for part in parts for name in part.get("architectures") or ()]


def _known() -> dict[str, frozenset[str]]:
    """The architectures by kind; none where an older checkout of llama.cpp is used."""
    listing = converter_script().parent / "conversion" / "__init__.py"
    tree = ast.parse(listing.read_text(encoding="utf-8") if listing.is_file() else "")
    return {
        part.target.id: frozenset(ast.literal_eval(part.value))
        for part in tree.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and part.target.id in (TEXT, PROJECTOR)
        and part.value
    }
