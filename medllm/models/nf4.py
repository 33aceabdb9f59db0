"""A model whose weights are quantized to NF4 while it is loaded, as QLoRA trains on it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from medllm.errors import ConfigError, SetupError
from medllm.models.adapter import add_adapter, base_of
from medllm.models.hardware import Dtype, lacks_bfloat16, pick_device
from medllm.models.load import ModelRef, is_quantized, load_as_stored, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_nf4(location: str, device: str | None = None, **options: Any) -> "PreTrainedModel":
    """The model in NF4 with double quantization (Dettmers et al. 2023), in evaluation mode.

    What is not quantized is in float32 on a CPU, where 16 bits would take many times as long.

    Raises:
        ArtifactError: it cannot be loaded.
        SetupError: bitsandbytes is not installed.
    """
    import torch
    from transformers import BitsAndBytesConfig

    device = device or pick_device()
    if find_spec("bitsandbytes") is None:
        raise SetupError("QLoRA needs bitsandbytes", "pip install 'medllm[bnb]'")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        # Dettmers et al. 2023; a GPU without bfloat16 computes in float16
        bnb_4bit_compute_dtype="float16" if lacks_bfloat16(device) else "bfloat16",
    )
    rest: Dtype = "float32" if device == "cpu" else "auto"
    # accelerate compares the number of the GPU with that of the process
    place = torch.cuda.current_device() if device == "cuda" else device
    options |= {"quantization_config": quantization, "device_map": {"": place}}
    return load_as_stored(location, dtype=rest, **options)


def load_on_nf4(model: ModelRef) -> "PreTrainedModel":
    """A model in NF4, or an adapter on its base in NF4.

    Raises:
        ConfigError: it is quantized already, or no folder of transformers.
        ArtifactError, SetupError: as `load_nf4`.
    """
    check_nf4(model)
    if not model.is_adapter:
        return load_nf4(model.location)
    return add_adapter(load_nf4(base_of(model).location), model)


def check_nf4(model: ModelRef) -> None:
    """Raise ConfigError where a model cannot be quantized to NF4 while it is loaded."""
    fix = "leave `quantization` out"
    if model.is_elsewhere or model.is_gguf:
        what = "a model at an address" if model.is_elsewhere else "a .gguf file"
        raise ConfigError(f"{model.ref}: {what} is not quantized to NF4 here", fix)
    base = base_of(model) if model.is_adapter else model
    if is_quantized(base.location):
        raise ConfigError(f"{base.ref}: it is quantized already", fix)
    check_reads_nf4(base)


def check_reads_nf4(model: ModelRef) -> None:
    """Raise ConfigError for a Mamba, which multiplies a weight itself, past bitsandbytes."""
    if read_config(model.path).get("model_type") in {"mamba", "falcon_mamba"}:
        message = f"{model.ref}: a Mamba cannot be computed in bitsandbytes' form, such as nf4"
        raise ConfigError(message, "leave it out; GGUF makes it small")
