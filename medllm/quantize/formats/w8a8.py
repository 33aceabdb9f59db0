"""INT8 weights and activations through llm-compressor."""

from pathlib import Path
from typing import Any

from medllm import console
from medllm.quantize.backends.llm_compressor import (
    LINEAR,
    check_compressor,
    compress,
    silenced_compressor,
)
from medllm.quantize.config import W8a8Format
from medllm.quantize.work import Made, Work, on_processor


def check_ahead(choice: W8a8Format) -> None:
    """Raise SetupError where llm-compressor is not installed."""
    check_compressor("W8A8")


def make(choice: W8a8Format, work: Work, folder: Path) -> Made:
    """Write an INT8 model in compressed-tensors' layout: SmoothQuant, then GPTQ at 8 bits.

    Raises:
        ArtifactError: llm-compressor cannot quantize this model.
    """
    kernel = on_processor("a processor takes many times as long as a GPU")
    console.notice(f"quantize: W8A8{kernel}")
    with silenced_compressor():
        from llmcompressor.modifiers.quantization import GPTQModifier

        recipe: list[Any] = [GPTQModifier(scheme="W8A8", **LINEAR)]
        if choice.smoothing_strength is not None:
            from llmcompressor.modifiers.smoothquant import SmoothQuantModifier

            recipe.insert(0, SmoothQuantModifier(smoothing_strength=choice.smoothing_strength))
        return compress(recipe, work, folder, calibrate=True)
