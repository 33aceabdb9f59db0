"""GPTQ through gptqmodel."""

from pathlib import Path

from medllm import console
from medllm.quantize.backends.gptqmodel import check_gptqmodel, quantize_layers
from medllm.quantize.config import GptqFormat
from medllm.quantize.work import Made, Work, on_processor


def check_ahead(choice: GptqFormat) -> None:
    """Raise SetupError where gptqmodel is not installed."""
    check_gptqmodel("GPTQ")


def make(choice: GptqFormat, work: Work, folder: Path) -> Made:
    """Write a GPTQ model that transformers loads; vLLM, too, where it has a kernel for it.

    Raises:
        ArtifactError: gptqmodel does not know the architecture.
        ConfigError: `dynamic` names modules that the model has not.
    """
    console.notice(
        "quantize: GPTQ (the first run on a machine compiles a kernel for about a minute)"
        + on_processor("a processor takes many times as long as a GPU")
    )
    settings = choice.model_dump(exclude={"format", "batch_size", "keep_seconds"})
    settings["dynamic"] = settings["dynamic"] or None
    how = {"batch_size": choice.batch_size, "keep_seconds": choice.keep_seconds}
    return quantize_layers(settings, work, folder, how)
