"""What an adapter changes in its base: which tensor, and how."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm.errors import ArtifactError
from medllm.models.adapter_tensors import PREFIX, WEIGHTS
from medllm.models.weights import Stored, read_header

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")
MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector.weight")

UNDERSTOOD = frozenset(
    {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_dropout",
     "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform",
     "layers_pattern", "init_lora_weights", "eva_config", "task_type", "inference_mode",
     "base_model_name_or_path", "revision", "peft_type", "peft_version", "auto_mapping",
     "runtime_config", "qalora_group_size", "megatron_core"}
)  # fmt: skip
"""Keys of PEFT's LoraConfig whose values a fold of two matrices respects."""
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to start LoRA that leave the base's weights as they are; PiSSA and others change them."""


@dataclass(frozen=True)
class Delta:
    """Low-rank matrices that are added to a weight, and DoRA's lengths of its rows."""

    left: "Tensor"
    """(rows of the weight, r), float32."""
    right: "Tensor"
    """(r, columns of the weight), float32."""
    scale: float
    magnitude: "Tensor | None" = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it fits."""
        return (self.left.shape[0], self.right.shape[1])

    def add_to(self, rows: "Tensor", first: int) -> "Tensor":
        """Rows of the weight, float32, from `first` on, with the adapter's change."""
        import torch

        part = slice(first, first + len(rows))
        added = torch.addmm(rows, self.left[part], self.right, alpha=self.scale)
        if self.magnitude is None:
            return added
        return added * (self.magnitude[part] / torch.linalg.norm(added, dim=1))[:, None]


@dataclass(frozen=True)
class Changes:
    """What an adapter changes, by the names that the parameters have in transformers."""

    deltas: Mapping[str, Delta]
    replaced: Mapping[str, Stored]
    """Whole tensors that were trained (`modules_to_save`) or resized."""


def unusual(config: Mapping[str, Any], folder: Path) -> str | None:
    """Why an adapter is no plain LoRA, rsLoRA or DoRA of matrices; None where it is one."""
    if config.get("peft_type") != "LORA":
        return f"its kind is {config.get('peft_type')}"
    if config.get("init_lora_weights", True) not in PLAIN_STARTS:
        return f"it was started with {config['init_lora_weights']}, which changes the base"
    odd = [key for key in sorted(config.keys() - UNDERSTOOD) if config[key] not in (None, "none")]
    if found := next((key for key in odd if config[key]), None):
        return f"it uses {found}"
    for name, tensor in read_header(folder / WEIGHTS).items():
        if name.endswith(PARTS) and len(tensor.shape) != 2:
            return f"{name} is no matrix"
        if "lora_" in name and not name.endswith((*PARTS, *MAGNITUDES)):
            return f"it has {name}"
    return None


def read_changes(config: Mapping[str, Any], folder: Path) -> Changes:
    """The changes of an adapter that is not `unusual`.

    Raises:
        ArtifactError: a matrix has no partner.
    """
    stored = {
        name.removeprefix(PREFIX): tensor for name, tensor in read_header(folder / WEIGHTS).items()
    }
    deltas = {
        f"{module}.weight": _delta(config, module, stored, dot) for module, dot in _modules(stored)
    }
    replaced = {name: tensor for name, tensor in stored.items() if "lora_" not in name}
    return Changes(deltas, replaced)


def _modules(stored: Mapping[str, Stored]) -> Iterator[tuple[str, bool]]:
    """The modules that matrices belong to, and whether it is an embedding."""
    for name in stored:
        if name.endswith(".lora_A.weight"):
            yield name.removesuffix(".lora_A.weight"), False
        elif name.endswith(".lora_embedding_A"):
            yield name.removesuffix(".lora_embedding_A"), True


def _delta(
    config: Mapping[str, Any], module: str, stored: Mapping[str, Stored], is_embedding: bool
) -> Delta:
    names = PARTS[2:] if is_embedding else PARTS[:2]
    try:
        first, second = (stored[f"{module}.{name}"].read().float() for name in names)
    except KeyError as missing:
        message = f"{stored[next(iter(stored))].path}: {missing.args[0]} is missing"
        raise ArtifactError(message, "train or download the adapter again") from None
    left, right = (first.T, second.T) if is_embedding else (second, first)
    rank = left.shape[1]
    alpha = _of_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    magnitude = next(
        (stored[f"{module}.{n}"] for n in MAGNITUDES if f"{module}.{n}" in stored), None
    )
    return Delta(left, right, scale, magnitude.read().float() if magnitude else None)


def _of_pattern(pattern: Mapping[str, float] | None, module: str, default: float) -> float:
    """As PEFT's `get_pattern_key`: the first key that is the end of the module's name."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
