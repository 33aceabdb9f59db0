"""Models that do not fit into memory: their layers are read from the disk while they compute."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import SetupError
from medllm.models.hardware import (
    WIDTHS,
    Dtype,
    count_parameters,
    free_memory_gib,
    pick_device,
    pick_dtype,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMFORTABLE = 0.6
"""The share of free memory that weights may take; the rest is for activations."""

_offloads: list[tuple[Path, float | None]] = []


@contextmanager
def offloading(folder: Path, max_memory_gib: float | None = None) -> Iterator[None]:
    """Meanwhile a model that does not fit into memory is read from the disk, layer by layer.

    Args:
        folder: For weights that are stored otherwise than they are computed with (fused experts).
        max_memory_gib: The most that weights may take; else `COMFORTABLE` of what is free.
    """
    _offloads.append((folder, max_memory_gib))
    try:
        yield
    finally:
        _offloads.pop()


def exact_place(folder: Path, stored: str) -> tuple[str, Dtype]:
    """The device and number format in which a model computes most exactly within free memory.

    That is float32, on this machine's device or else its processor; where neither has the room, it
    is 16 bits: the format of the file, or bfloat16.

    Raises:
        SetupError: not even that has the room, and the file cannot be mapped into memory as it is.
    """
    numbers, device = count_parameters(folder), pick_device()
    narrow: Dtype = "float16" if stored == "float16" else "bfloat16"
    formats: tuple[Dtype, ...] = ("float32", narrow)
    for dtype in formats:
        for place in dict.fromkeys((device, "cpu")):
            if numbers * WIDTHS[dtype] / 2**30 <= COMFORTABLE * free_memory_gib(place):
                return place, dtype
    needed, free = numbers * WIDTHS[narrow] / 2**30, free_memory_gib("cpu")
    if stored != narrow and needed > free:
        sizes = f"{console.rounded(needed, 2)} GiB of memory, {console.rounded(free, 2)} are free"
        what = f"{folder.name}: {narrow} takes {sizes}"
        raise SetupError(what, "free some; --set merge.verify=false leaves a merge unchecked")
    return "cpu", narrow


def is_offloaded(model: "PreTrainedModel") -> bool:
    """Whether layers of a model are read from the disk each time they compute."""
    return "disk" in getattr(model, "hf_device_map", {}).values()


def fit(location: Path, wanted: Dtype, device: str) -> dict[str, Any]:
    """How to load a model so that it fits into memory: as it is, in bfloat16, or from the disk.

    The options are those of transformers' `from_pretrained`; none outside `offloading`.
    """
    if not _offloads:
        return {}
    folder, most = _offloads[-1]
    room = COMFORTABLE * free_memory_gib(device) if most is None else most
    dtype = pick_dtype(wanted, device)
    millions = count_parameters(location) / 1e6
    needed = {name: millions * 1e6 * width / 2**30 for name, width in WIDTHS.items()}
    if needed[dtype] <= room:
        return {}
    weights, memory = console.rounded(needed[dtype], 2), console.rounded(room, 2)
    lacks = f"{weights} GiB of weights in {dtype} do not fit into {memory} GiB of {device} memory"
    if (wanted, dtype) == ("auto", "float32") and needed["bfloat16"] <= room:
        console.notice(f"{lacks}: computing in bfloat16, which is less exact")
        return {"dtype": "bfloat16"}
    console.notice(f"{lacks}: each layer is read from the disk when it computes, which is slower")
    return {"device_map": _place_layers(location, device), "offload_folder": str(folder)}


def _place_layers(location: Path, device: str) -> dict[str, str]:
    """For accelerate: the layers of a model, and an output layer of its own, stay on the disk."""
    from torch import device as on
    from transformers import AutoConfig, AutoModelForCausalLM

    with on("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(location, trust_remote_code=False)
        )
    kinds = model._no_split_modules
    layers = {name for name, each in model.named_modules() if type(each).__name__ in kinds}
    if not model.all_tied_weights_keys:
        head = model.get_output_embeddings()
        layers |= {name for name, each in model.named_modules() if each is head}
    tensors = (*model.state_dict(), *(name for name, _ in model.named_buffers()))
    rest = {name.rpartition(".")[0] for name in tensors if not any(f"{x}." in name for x in layers)}
    return dict.fromkeys(sorted(layers), "disk") | dict.fromkeys(sorted(rest), device)
