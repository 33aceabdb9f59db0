"""A tiny model with random weights and the architecture of a real one, for smoke runs."""

import json
import shutil
from pathlib import Path
from typing import Any

from medllm import console
from medllm.models.load import ModelRef

SIZES: dict[str, int] = {  # multiples of 256, so that every K-quant of llama.cpp applies
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
"""Sizes of the tiny model, by their names in transformers' configurations."""
PER_LAYER = ("layer_types",)
"""Lists with one entry a layer."""
TOKENIZER_FILES = ("tokenizer*", "*.model", "*.jinja", "*.txt", "vocab.json", "*_map.json",
                   "*processor_config.json")  # fmt: skip


def write_tiny_copy(model: ModelRef, folder: Path, seed: int = 0) -> None:
    """Write a model with random weights into a new folder; the tokenizer is the real one's."""
    import torch

    with console.quiet():
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(**shrink(_read_config(model.path)))
        torch.manual_seed(seed)
        tiny = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        tiny.save_pretrained(folder)
    for file in {path for pattern in TOKENIZER_FILES for path in model.path.glob(pattern)}:
        shutil.copyfile(file, folder / file.name)


def shrink(config: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration with its sizes made tiny, inside its parts too."""
    small: dict[str, Any] = {}
    for key, value in config.items():
        if key in SIZES and isinstance(value, int):
            small[key] = min(value, SIZES[key])
        elif key in PER_LAYER and isinstance(value, list):
            small[key] = value[-SIZES["num_hidden_layers"] :]
        else:
            small[key] = shrink(value) if isinstance(value, dict) else value
    return small


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
