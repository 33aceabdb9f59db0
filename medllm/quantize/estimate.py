"""What quantizing will take, told before it starts: disk, memory and time, from file headers."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medllm import console
from medllm.artifacts.unfinished import ELSEWHERE
from medllm.errors import SetupError
from medllm.models.hardware import (
    WIDTHS,
    count_cpus,
    free_memory_gib,
    pick_device,
    pick_dtype,
    read_shapes,
)
from medllm.models.offload import COMFORTABLE
from medllm.models.weights import is_in_layer
from medllm.quantize.calibration import TEXTS
from medllm.quantize.config import Format, GgufFormat, QuantizeConfig

GGUF_BITS: dict[str, tuple[float, float, float]] = {
    "F32": (32, 32, 32), "F16": (16, 16, 16), "BF16": (16, 16, 16), "Q8_0": (8.5, 8.5, 8.5),
    "Q6_K": (6.562, 6.5625, 6.5625), "Q5_K_M": (5.634, 5.5, 6.5625),
    "Q5_K_S": (5.5, 5.5, 6.5625), "Q5_1": (6, 6, 6.5625), "Q5_0": (5.512, 5.5, 6.5625),
    "Q4_K_M": (4.76, 4.5, 6.5625), "Q4_K_S": (4.526, 4.5, 6.5625), "Q4_1": (5, 5, 6.5625),
    "Q4_0": (4.512, 4.5, 6.5625), "IQ4_NL": (4.511, 4.5, 6.5625),
    "IQ4_XS": (4.264, 4.25, 6.5625), "Q3_K_L": (4.194, 3.4375, 6.5625),
    "Q3_K_M": (3.84, 3.4375, 6.5625), "Q3_K_S": (3.438, 3.4375, 6.5625),
    "IQ3_M": (3.57, 3.4375, 6.5625), "IQ3_S": (3.449, 3.4375, 6.5625),
    "Q2_K": (2.935, 2.625, 6.5625), "IQ3_XS": (3.257, 3.4375, 6.5625),
    "IQ3_XXS": (3.062, 3.4375, 5.5), "Q2_K_S": (2.691, 2.625, 6.5625),
    "IQ2_M": (2.683, 3.4375, 5.5), "IQ2_S": (2.464, 3.4375, 5.5), "IQ2_XS": (2.344, 2.625, 5.5),
    "IQ2_XXS": (2.103, 2.625, 5.5), "IQ1_M": (1.83, 2.625, 5.5), "IQ1_S": (1.665, 2.625, 5.5),
}  # fmt: skip
"""Bits of a weight in the layers, the token embeddings and the output layer, for a Llama; printed
by scripts/benchmarks/gguf_sizes.py."""
LIBRARIES_GIB = 0.7
"""What torch, transformers and a quantizer take before there is a model."""
TOKEN_BYTES = 24
"""Of a token in a GGUF file: its text with its length, its score and its kind."""
ROUNDED_BITS = {"nf4": 4.13, "int8": 8}
"""Bits of a weight of bitsandbytes, scales too: one for 64 weights, themselves in 8 bits."""
COLUMN_SECONDS = 0.001
"""GPTQ quantizes column by column, in Python; a guess, as are the two below."""
WEIGHTS_PER_SECOND = 5e6
"""That llama.cpp quantizes to a K-quant, on one processor."""
CHARACTERS_OF_A_TOKEN = 4
"""In English; only time and memory are told by it."""
BYTES_PER_SECOND = 2e8
"""That the converter writes."""


@dataclass(frozen=True)
class Estimate:
    """What one format takes."""

    folder: str
    bytes: float
    memory_gib: float
    seconds: float


@dataclass(frozen=True)
class Model:
    """The weights of a model folder, by their part in it."""

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> "Model":
        """From the headers of its safetensors; no weights at all where there are none."""
        return cls(read_shapes(folder))

    @cached_property
    def linear(self) -> list[tuple[int, ...]]:
        """The shapes (…, rows, columns) of the matrices of the layers."""
        return [
            shape
            for name, shape in self.shapes.items()
            if len(shape) > 1 and is_in_layer(name) and not name.endswith("bias")
        ]

    @cached_property
    def layer_weights(self) -> int:
        """How many those are."""
        return sum(map(math.prod, self.linear))

    @cached_property
    def ends(self) -> dict[str, int]:
        """The weights of the token embeddings and, unless it is the same, of the output layer.

        They have a row for each token, more than what else is outside the layers.
        """
        outside = {
            name: shape
            for name, shape in self.shapes.items()
            if len(shape) == 2 and not is_in_layer(name)
        }
        rows = max((shape[0] for shape in outside.values()), default=0)
        return {name: math.prod(shape) for name, shape in outside.items() if shape[0] == rows}

    @cached_property
    def weights(self) -> int:
        """All."""
        return sum(map(math.prod, self.shapes.values()))


def estimate(
    model: Model, formats: Sequence[Format], tokens: int, max_memory_gib: float | None = None
) -> list[Estimate]:
    """For each format its bytes on the disk, peak memory and seconds, quality left out.

    Bytes are within 5 % for models like Llama; memory and time tell the order.
    """
    machine = Machine.measure(max_memory_gib)
    found, measured = [], False
    for choice in formats:
        seconds = _seconds(model, choice, tokens, machine)
        if choice.format == "gguf" and choice.uses_calibration and not measured:
            seconds += machine.forward_seconds(model, tokens)
            measured = True
        memory = LIBRARIES_GIB + _memory_gib(model, choice, tokens, machine)
        found.append(Estimate(choice.folder, result_bytes(model, choice), memory, seconds))
    return found


def result_bytes(model: Model, choice: Format) -> float:
    """The bytes of the weights that a format writes."""
    small = model.weights - model.layer_weights - sum(model.ends.values())
    if isinstance(choice, GgufFormat):
        layers, embedding, output = GGUF_BITS[choice.type]
        tied = len(model.ends) < 2
        ends = sum(
            weights * (output if tied or "embed" not in name else embedding)
            for name, weights in model.ends.items()
        )
        vocabulary = TOKEN_BYTES * embeddings_of(model)[0]
        return (model.layer_weights * layers + ends) / 8 + 4 * small + vocabulary
    rest = 2 * (small + sum(model.ends.values()))  # the others leave these in 16 bits
    return rest + sum(_packed_bytes(choice, shape) for shape in model.linear)


def _packed_bytes(choice: Format, shape: tuple[int, ...]) -> float:
    """Packed weights, a scale and a zero for each group and row, and the group of each column."""
    *copies, rows, columns = shape
    size = getattr(choice, "group_size", -1)
    groups = columns / size if size > 0 else 1
    width = getattr(choice, "bits", 0) or ROUNDED_BITS.get(getattr(choice, "type", ""), 8)
    bits = width * rows * columns + groups * rows * (16 + width)
    return math.prod(copies) * (bits + 32 * columns * (choice.format == "gptq")) / 8


def bits_of_a_weight(choice: Format) -> float:
    """Of a large matrix in a layer, scales and zeros too: what formats are ranked by."""
    if isinstance(choice, GgufFormat):
        return GGUF_BITS[choice.type][0]
    rows = columns = 4096
    return 8 * _packed_bytes(choice, (rows, columns)) / (rows * columns)


def by_layers(choice: Format) -> bool:
    """Whether one layer is loaded, quantized and put away after the other: gptqmodel's way."""
    return hasattr(choice, "group_size")


def scratch_bytes(model: Model, formats: Sequence[Format], tokens: int) -> float:
    """What lies on the disk while the formats are made: a GGUF file of 16 bits, GPTQ's layers.

    GPTQ keeps what its layers gave, twice, so that a killed run resumes.
    """
    whole = 2 * model.weights if any(each.format == "gguf" for each in formats) else 0
    gptq = [each for each in formats if by_layers(each)]
    layers = 2 * sum(result_bytes(model, each) for each in gptq)
    return whole + layers + 2 * 2 * 2 * tokens * embeddings_of(model)[1] * len(gptq)


def embeddings_of(model: Model) -> tuple[int, ...]:
    """The tokens of the vocabulary and the hidden size: the shape of the embeddings."""
    return next((model.shapes[name] for name in model.ends), (0, 0))


def count_tokens(calibration: Path | None) -> int:
    """About how many tokens a calibration set has, by the size of its file; 0 without one."""
    texts = calibration / TEXTS if calibration else None
    if texts is None or not texts.is_file():
        return 0
    return texts.stat().st_size // CHARACTERS_OF_A_TOKEN


def check_disk(folder: Path, config: QuantizeConfig) -> None:
    """Raise SetupError where what is still to be made of a model does not fit on the disk."""
    assert config.output is not None
    todo = [each for each in config.formats if not (config.output / each.folder).is_dir()]
    model, tokens = Model.read(folder), count_tokens(config.calibration)
    results = sum(result_bytes(model, each) for each in todo)
    kept = (file for file in config.output.glob(".shared-*/**/*") if file.is_file())
    meanwhile = scratch_bytes(model, todo, tokens) - sum(file.stat().st_size for file in kept)
    folders = (config.output, *config.output.absolute().parents)
    place = next(path for path in folders if path.is_dir())
    free, needed = shutil.disk_usage(place).free, results + max(meanwhile, 0)
    if todo and needed > free:
        lasting, most, left = (console.rounded(size / 2**30, 2) for size in (results, needed, free))
        parts = f"{lasting} GiB of results, the rest meanwhile"
        message = f"quantizing needs about {most} GiB on the disk ({parts})"
        where = f"{place} has {left} GiB free"
        raise SetupError(f"{message}; {where}", f"free some space, or {ELSEWHERE}")


@dataclass(frozen=True)
class Machine:
    """How fast and how large the device is."""

    device: str
    operations_per_second: float
    room_gib: float
    """What weights may take."""

    @classmethod
    def measure(cls, max_memory_gib: float | None = None) -> "Machine":
        """Multiply matrices for a moment."""
        import torch

        device = pick_device()
        dtype = getattr(torch, pick_dtype("auto", device))
        matrix = torch.ones((2048, 2048), dtype=dtype, device=device)
        (matrix @ matrix).sum().item()
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < 0.5:
            (matrix @ matrix).sum().item()
            rounds += 1
        rate = rounds * 2 * 2048**3 / (time.perf_counter() - began)
        room = COMFORTABLE * free_memory_gib(device) if max_memory_gib is None else max_memory_gib
        return cls(device, rate, room)

    @property
    def width(self) -> int:
        """Bytes of a number that it computes with."""
        return WIDTHS[pick_dtype("auto", self.device)]

    def forward_seconds(self, model: Model, tokens: int) -> float:
        """Of a pass over so many tokens."""
        return 2 * model.layer_weights * tokens / self.operations_per_second


def _seconds(model: Model, choice: Format, tokens: int, machine: Machine) -> float:
    if choice.format == "gguf":
        converted = 2 * model.weights / BYTES_PER_SECOND
        return converted + model.weights / WEIGHTS_PER_SECOND / count_cpus()
    if not by_layers(choice):
        return 4 * model.weights / BYTES_PER_SECOND
    columns = sum(math.prod(shape[:-2]) * shape[-1] for shape in model.linear)
    # a pass for the inputs of the layers, and one for what the quantized layers give
    return 2 * machine.forward_seconds(model, tokens) + columns * COLUMN_SECONDS


def _memory_gib(model: Model, choice: Format, tokens: int, machine: Machine) -> float:
    """Weights that are in memory at a time, and what is computed of them."""
    ends, largest = sum(model.ends.values()), max(map(math.prod, model.linear), default=0)
    if choice.format == "gguf":
        if not choice.uses_calibration:
            return 8 * max(largest, *model.ends.values()) / 2**30
        weights = machine.width * model.weights / 2**30
        kept = machine.width * (ends + largest) / 2**30
        return weights if weights <= machine.room_gib else kept
    if not by_layers(choice):
        return 2 * model.weights / 2**30
    widest = max((shape[-1] for shape in model.linear), default=0)
    layer = model.layer_weights / max(len(model.linear), 1) * 7
    states = 2 * 2 * tokens * embeddings_of(model)[1]
    return (2 * ends + 4 * layer + 3 * 4 * widest**2 + states) / 2**30


def render_estimate(folder: Path, config: QuantizeConfig, tokens: int) -> list[str]:
    """Lines of a table: disk, memory and time of each format, and of all."""
    model = Model.read(folder)
    rows = estimate(model, config.formats, tokens, config.max_memory_gib)
    results = sum(each.bytes for each in rows)
    disk = results + scratch_bytes(model, config.formats, tokens)
    header = f"{'':20}{'result':>10}{'memory':>10}{'time':>10}"
    lines = [_line(each.folder, each.bytes, each.memory_gib, each.seconds) for each in rows]
    peak, seconds = max(each.memory_gib for each in rows), sum(each.seconds for each in rows)
    return [
        f"estimated, for about {tokens:,} calibration tokens on this machine, quality left out:",
        *(header, *lines, _line("all", results, peak, seconds)),
        f"{disk / 1e6:,.0f} MB of disk meanwhile; sizes are for Llama-like models; "
        "memory and time are guesses, time × or ÷ 3",
    ]


def _line(name: str, size: float, memory_gib: float, seconds: float) -> str:
    return f"{name:20}{size / 1e6:7,.0f} MB{memory_gib:6.1f} GiB{console.lasting(seconds):>10}"
