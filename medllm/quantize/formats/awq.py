"""AWQ through gptqmodel."""

from pathlib import Path

from medllm import console
from medllm.quantize.backends.gptqmodel import check_gptqmodel, quantize_layers
from medllm.quantize.config import AwqFormat
from medllm.quantize.work import Made, Work, on_processor


def check_ahead(choice: AwqFormat) -> None:
    """Raise SetupError where gptqmodel is not installed."""
    check_gptqmodel("AWQ")


def make(choice: AwqFormat, work: Work, folder: Path) -> Made:
    """Write an AWQ model in AutoAWQ's `gemm` layout, which transformers and vLLM load.

    Raises:
        ArtifactError: gptqmodel does not know the architecture.
    """
    slower = on_processor("a processor takes many times as long as a GPU")
    console.notice(f"quantize: AWQ{slower}")
    settings = choice.model_dump(exclude={"format", "batch_size"})
    # of the kernels that pack this one alone needs neither a GPU nor the CUDA compiler (nvcc)
    how = {"batch_size": choice.batch_size, "backend": "awq_torch"}
    return quantize_layers(settings | {"method": "awq", "format": "gemm"}, work, folder, how)
