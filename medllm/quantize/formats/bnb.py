"""bitsandbytes through transformers: round-to-nearest, no calibration."""

from importlib.util import find_spec
from pathlib import Path

from medllm import console
from medllm.errors import SetupError
from medllm.models.hardware import pick_device
from medllm.models.load import load_as_stored, save_companions
from medllm.models.nf4 import check_reads_nf4
from medllm.quantize.config import BnbFormat
from medllm.quantize.work import Made, Work


def check_ahead(choice: BnbFormat) -> None:
    """Raise SetupError where bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        raise SetupError("bnb needs bitsandbytes", "pip install 'medllm[bnb]'")


def make(choice: BnbFormat, work: Work, folder: Path) -> Made:
    """Write a model whose weights are quantized, so that loading it need not quantize them again.

    Raises:
        ArtifactError: transformers cannot load the parent.
        ConfigError: it is a Mamba.
    """
    from transformers import BitsAndBytesConfig

    check_reads_nf4(work.model)
    console.notice(f"quantize: bitsandbytes {choice.type}, which uses no calibration text")
    quantization = BitsAndBytesConfig(load_in_8bit=True)
    if choice.type == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=choice.bnb_4bit_use_double_quant,
            bnb_4bit_compute_dtype="bfloat16",
        )
    # freshly loaded weights only: a forward pass may repack them
    model = load_as_stored(
        work.model.location, quantization_config=quantization, device_map={"": pick_device()}
    )
    with console.quiet():
        model.save_pretrained(folder)
    save_companions(work.model, folder)
    return Made(folder, {"type": choice.type}, device=pick_device())
