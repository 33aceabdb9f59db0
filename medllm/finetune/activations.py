"""The memory that training an adapter takes, from the shapes of a model; what of it to keep."""

import math
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, Self

from medllm import console

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedConfig

LADDER = (0, 8, 4, 3, 2, 1)
"""Of so many layers one is computed again in the backward pass; 0 for none, 1 for all."""
NF4 = 0.53
"""Bytes of a number in 4 bits, with the scales of its block (Dettmers et al. 2023: 4.127 bits)."""
ADAPTER = 18
"""Bytes of a number of an adapter: itself, its gradient, and two of AdamW, in float32; and itself
in the 16 bits that are computed in."""
RESERVE, RESERVE_GIB = 0.05, 1.0
"""Of the free memory, and beside it, for what is not counted: kernels, logits, fragments."""

SMALLER = "it may not fit: lower per_device_train_batch_size, or max_length"
"""What is said where even that takes more than there is."""


@dataclass(frozen=True)
class Need:
    """What a training of an adapter in 16 bits takes, in bytes."""

    layers: int
    standing: float
    """Weights, adapter, gradients and optimizer."""
    kept: float
    """By a layer for each token of a step."""
    hidden: float
    """By the input of a layer for each token, from which the layer can be computed again."""

    @classmethod
    def of(cls, kind: Any, config: "PreTrainedConfig", r: int, *, is_nf4: bool) -> Self | None:
        """That of a class of models; None where its layers are of another make."""
        import torch

        with torch.device("meta"), console.quiet():
            model = kind(config)
        text = config.get_text_config()
        layers = getattr(model.get_decoder(), "layers", ())
        made = [_count(layer, text, r) for layer in layers]
        if not made or None in made:
            return None
        kept, matrices, adapter = (max(column) for column in zip(*made, strict=True))
        rest = sum(weight.numel() for weight in model.parameters()) - matrices * len(made)
        standing = 2 * rest + len(made) * (matrices * (NF4 if is_nf4 else 2) + adapter * ADAPTER)
        return cls(len(made), standing, kept, 2 * text.hidden_size)

    def gib(self, tokens: int, every: int) -> float:
        """With so many tokens in a step, and one of `every` layers computed again.

        The layer that the backward pass is at is there twice. Measured for the shape of Llama 3 8B
        with 8,192 tokens in a step (docs/benchmarks/finetune-gpu.json): LoRA 64.3 GiB where this
        says 68.3, QLoRA 54.2 where it says 58.8.
        """
        again = math.ceil(self.layers / every) if every else 0
        each = again * self.hidden + (self.layers - again + 1) * self.kept
        return (self.standing + tokens * each) / 2**30


def _count(layer: "Module", text: "PreTrainedConfig", r: int) -> tuple[float, ...] | None:
    """Bytes that a layer keeps of a token, its numbers in matrices, and those of an adapter of it.

    Kept are, in 16 bits, what each matrix puts out (the queries, keys and values as attention reads
    them, and what attention puts out in the place of what its matrix does), twice what goes into
    the last matrix of the feed-forward (its activation and their product), keys and values as often
    as there are queries, and of each norm its input in 32 bits and its output.
    """
    from torch.nn import Linear

    matrices = [part for part in layer.modules() if type(part) is Linear]
    norms = [part for part in layer.modules() if type(part).__name__.endswith("Norm")]
    known = {id(weight) for part in (*matrices, *norms) for weight in part.parameters()}
    if any(id(weight) not in known for weight in layer.parameters()):  # experts, say
        return None
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries = size * text.num_attention_heads
    widest = max(matrix.in_features for matrix in matrices)
    outputs = sum(matrix.out_features + r for matrix in matrices)
    kept = 2 * (outputs + 2 * widest + 2 * queries) + 6 * len(norms) * max(
        text.hidden_size, queries
    )
    numbers = sum(matrix.weight.numel() for matrix in matrices)
    return kept, numbers, sum(r * (m.in_features + m.out_features) for m in matrices)


@dataclass(frozen=True)
class Recomputation:
    """Which layers' activations are computed again in the backward pass, and why."""

    every: int
    """One of so many layers; 0 for none, 1 for all."""
    estimated_gib: float | None = None
    """What the training takes so; None where that is not known, and so all are computed again."""
    free_gib: float | None = None

    @classmethod
    def choose(cls, need: Need | None, tokens: int, free_gib: float) -> Self:
        """The least that fits, for steps of so many tokens."""
        if need is None:
            return cls(1)
        from transformers import PreTrainedModel

        enable = signature(PreTrainedModel.gradient_checkpointing_enable)
        ladder = LADDER if "every_n_layers" in enable.parameters else (0, 1)  # 5.17 has it
        room = free_gib * (1 - RESERVE) - RESERVE_GIB
        every = next((n for n in ladder if need.gib(tokens, n) <= room), 1)
        return cls(every, round(need.gib(tokens, every), 1), round(free_gib, 1))

    def __str__(self) -> str:
        """For people."""
        which = {0: "kept", 1: "computed again"}.get(
            self.every, f"computed again in one of {self.every} layers, else kept"
        )
        if not self.estimated_gib or not self.free_gib:
            return f"activations are {which}"
        why = f"about {self.estimated_gib} GiB of {self.free_gib} GiB that are free"
        lacking = f"; {SMALLER}" if self.estimated_gib > self.free_gib else ""
        return f"activations are {which}: {why}{lacking}"
