"""Whether a model fits into memory, from the shapes in its files, before anything is loaded."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medllm import console
from medllm.errors import SetupError
from medllm.models.adapter import base_of
from medllm.models.gpu import ON_PROCESSOR
from medllm.models.hardware import WIDTHS, Dtype, free_memory_gib, pick_device, read_shapes
from medllm.models.load import ModelRef, computed_in, is_quantized, read_config, text_config_of
from medllm.models.weights import FLOATS, is_in_layer, read_weights

GIB = 2**30
FOUR_BITS, EIGHT_BITS = 4.5 / 8, 8.5 / 8
"""Bytes of a weight in the layers with its share of scales: NF4 and GPTQ take less than that, Q8_0
just that. All other weights stay in 16 bits."""
WITH_GRADIENTS = 2
"""Times the weights, where all of them are trained; what the optimizer keeps comes on top."""
Ways = Iterable[tuple[str, float]]
"""Ways to have a model in less memory, the least loss first, and what each takes, in GiB."""


@dataclass(frozen=True)
class Room:
    """The free memory of the device that computes, and of the processor."""

    device: str
    free_gib: float
    processor_gib: float

    @classmethod
    def here(cls) -> "Room":
        """What is free now."""
        device = pick_device()
        return cls(device, free_memory_gib(device), free_memory_gib("cpu"))

    def check(self, what: str, needed_gib: float, smaller: Ways = ()) -> None:
        """Raise SetupError where what is needed is not free; the remedy names what fits."""
        if needed_gib <= self.free_gib:
            return
        is_gpu = self.device == "cuda"
        where = "of the GPU's memory are free" if is_gpu else "of memory are free here"
        ways = [
            f"{way} (about {console.rounded(gib, 2)} GiB) fits"
            for way, gib in smaller
            if gib <= self.free_gib
        ]
        fix = ways[0] if ways else "no smaller form of it fits: take a smaller model"
        if is_gpu:
            fix += "; `nvidia-smi` shows what else takes memory"
        if is_gpu and needed_gib <= self.processor_gib:
            fix += f"; {ON_PROCESSOR}, slowly"
        needed, free = console.rounded(needed_gib, 2), console.rounded(self.free_gib, 2)
        raise SetupError(f"{what} takes about {needed} GiB, and {free} GiB {where}", fix)


@dataclass(frozen=True)
class Weights:
    """The weights of a model folder that is not quantized."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> "Weights":
        """From the headers of its files."""
        return cls(read_shapes(folder))

    @cached_property
    def all(self) -> int:
        """How many."""
        return sum(map(math.prod, self.shapes.values()))

    @cached_property
    def in_layers(self) -> int:
        """How many of them are quantized: the matrices of the layers."""
        return sum(math.prod(of) for name, of in self.shapes.items()
                   if len(of) > 1 and is_in_layer(name))  # fmt: skip

    def gib(self, bytes_each: float) -> float:
        """In one number format."""
        return self.all * bytes_each / GIB

    def quantized_gib(self, bytes_each: float) -> float:
        """With the matrices of the layers in so many bytes a weight."""
        return (self.in_layers * bytes_each + 2 * (self.all - self.in_layers)) / GIB


def check_room(verb: str, model: ModelRef, dtype: Dtype) -> None:
    """Raise SetupError where the weights alone take more memory than is free; says what would fit.

    What is mapped into memory as it is need not be free: .gguf files, and on a processor files in
    the number format that is computed in.
    """
    base = base_of(model, None) if model.is_adapter else model
    form, room = computed_in(base, dtype), Room.here()
    if model.quantization:
        needed = Weights.read(base.path).quantized_gib(FOUR_BITS)
        room.check(f"{verb}: loading {base.ref} in {model.quantization}", needed)
        return
    if base.is_gguf or (room.device == "cpu" and form in stored_in(base)):
        return
    what = f"{verb}: loading {base.ref}"
    if is_quantized(base.location):
        room.check(what, base.weight_bytes / GIB)
        return
    weights = Weights.read(base.path)
    room.check(f"{what} in {form}", weights.gib(WIDTHS[form]), smaller_ways(weights, form))


def check_training(model: ModelRef, form: str, *, is_whole: bool) -> None:
    """The same for the base of a training, in a number format or "nf4"; `is_whole`: all of it."""
    weights, room = Weights.read(model.path), Room.here()
    if room.device == "cpu" and not is_whole and form in stored_in(model):
        return
    nf4 = weights.quantized_gib(FOUR_BITS)
    needed = nf4 if form == "nf4" else weights.gib(WIDTHS[form])
    if is_whole:
        what = f"finetune: training all of {model.ref}, weights and gradients alone,"
        ways = [("an adapter (lora: {})", weights.gib(2)), ("lora: {}, quantization: nf4", nf4)]
        room.check(what, WITH_GRADIENTS * needed, ways)
    else:
        room.check(f"finetune: loading {model.ref} in {form}", needed, [("quantization: nf4", nf4)])


def stored_in(model: ModelRef) -> set[str]:
    """The number format of a model's files, where all of them have the same."""
    kinds = {tensor.format for tensor in read_weights(model.path).values() if tensor.is_float}
    return {FLOATS[kind] for kind in kinds} if len(kinds) == 1 else set()


def smaller_ways(weights: Weights, form: str) -> Iterator[tuple[str, float]]:
    """Ways to run a model in less memory."""
    if form == "float32":
        yield "--set dtype=bfloat16", weights.gib(2)
    yield "8 bits, such as quantize --format gguf --type Q8_0,", weights.quantized_gib(EIGHT_BITS)
    yield "4 bits, such as quantize --format bnb,", weights.quantized_gib(FOUR_BITS)


def say_context(verb: str, model: ModelRef, context_length: int, dtype: Dtype) -> None:
    """Say how many tokens fit beside the loaded weights, where that is less than the context."""
    width = WIDTHS.get(computed_in(model, dtype), 2)
    each = token_bytes(read_config(model.path), width)
    if not each or context_length * each <= free_memory_gib(pick_device()) * GIB:
        return
    fitting = int(free_memory_gib(pick_device()) * GIB / each)
    console.notice(
        f"{verb}: about {fitting:,} of {context_length:,} tokens of context fit into memory; "
        f"--set {verb}.n_ctx={fitting // 256 * 256 or 256} refuses longer requests at once"
    )


def token_bytes(config: Mapping[str, Any], width: int) -> int | None:
    """What the keys and values of a token take; None where a configuration does not say it.

    Layers with a sliding window hold little, and are not counted.
    """
    text = text_config_of(dict(config))
    heads, hidden = text.get("num_attention_heads"), text.get("hidden_size")
    if not heads or not hidden or "kv_lora_rank" in text:  # DeepSeek's are compressed
        return None
    kinds = text.get("layer_types") or ["full_attention"] * text.get("num_hidden_layers", 0)
    size = text.get("head_dim") or hidden // heads
    kept = text.get("num_key_value_heads") or heads
    return int(2 * kinds.count("full_attention") * kept * size * width)
