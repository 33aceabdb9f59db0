"""What the tutorial says that models take is computed from their shapes and the code's own bits."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from medllm.finetune.config import LoraSettings
from medllm.quantize.estimate import GGUF_BITS, ROUNDED_BITS

ROOT = Path(__file__).parents[2]
GIB = 2**30
TRAINED_BYTES = 16
"""Of a trained parameter: itself, its gradient and two moments of Adam, each in float32."""


@dataclass(frozen=True)
class Shape:
    """A Llama, by its config.json on the hub."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    queries: int
    keys: int
    tied: bool

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """The shapes of the linear modules of a layer."""
        inner = (self.hidden, self.intermediate)
        heads = [(self.hidden, self.queries)] * 2 + [(self.hidden, self.keys)] * 2
        return [*heads, *[inner] * 3]

    @property
    def linear(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.matrices)

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def adapter_gib(self) -> float:
        r = LoraSettings().r
        return self.layers * sum(r * sum(m) for m in self.matrices) * TRAINED_BYTES / GIB

    @property
    def lora_gib(self) -> float:
        return (self.linear + self.embeddings) * 2 / GIB + self.adapter_gib

    @property
    def qlora_gib(self) -> float:
        weights = self.linear * ROUNDED_BITS["nf4"] / 8 + self.embeddings * 2
        return weights / GIB + self.adapter_gib

    @property
    def gguf_gib(self) -> float:
        layers, embedding, output = GGUF_BITS["Q4_K_M"]
        table = self.vocabulary * self.hidden
        ends = table * (output if self.tied else embedding + output)
        return (self.linear * layers + ends) / 8 / GIB


SHAPES = {
    "Llama 3.2 1B": Shape(128256, 2048, 8192, 16, 32 * 64, 8 * 64, tied=True),
    "Llama 3.2 3B": Shape(128256, 3072, 8192, 28, 24 * 128, 8 * 128, tied=True),
    "Llama 3.1 8B": Shape(128256, 4096, 14336, 32, 32 * 128, 8 * 128, tied=False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_model_takes_is_as_told(name: str) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", page, re.MULTILINE)
    shape = SHAPES[name]

    assert row.split(" | ") == [
        f"{gib:.1f}" for gib in (shape.lora_gib, shape.qlora_gib, shape.gguf_gib)
    ]
