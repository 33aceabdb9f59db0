"""Which device and number format this machine offers."""

import math
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medllm.models.gpu import say_emulated, uses_cuda
from medllm.models.weights import read_header, weight_files

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""
CGROUPS = Path("/sys/fs/cgroup")


def pick_device() -> str:
    """The device to compute on: "cuda", "mps" or "cpu"; says once why a GPU is left alone.

    Raises:
        SetupError: PyTorch has no code for the GPU, or one is named that is not there.
    """
    import torch

    if uses_cuda():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(wanted: Dtype, device: str) -> Dtype:
    """The torch dtype: as asked, else float32 on CPU and bfloat16 (or float16) on a GPU."""
    if wanted == "auto" and device == "cpu":
        return "float32"
    has_bfloat16 = device == "cuda" and multiplies_bfloat16_on_gpu()
    if wanted == "auto":
        return "bfloat16" if has_bfloat16 else "float16"
    if wanted == "bfloat16" and device == "cuda" and not has_bfloat16:
        say_emulated()
    return wanted


def lacks_bfloat16(device: str) -> bool:
    """Whether a device has float16 alone."""
    return device != "cpu" and pick_dtype("auto", device) == "float16"


def multiplies_bfloat16_on_gpu() -> bool:
    """Whether the GPU has instructions for bfloat16: a T4 only emulates it, slowly."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions that multiply matrices of bfloat16."""
    import torch

    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a model folder's tensors, from safetensors' headers; empty without such files.

    Raises:
        ArtifactError: a file is cut off or broken.
    """
    files = weight_files(folder)
    return {name: tensor.shape for path in files for name, tensor in read_header(path).items()}


def count_parameters(folder: Path) -> int:
    """The parameters of a model folder."""
    return sum(map(math.prod, read_shapes(folder).values()))


def free_memory_gib(device: str) -> float:
    """The memory of a device that is free now, within this process's limit; inf where unknown."""
    if device == "cuda":
        import torch

        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return float(torch.cuda.mem_get_info()[0] + cached) / 2**30
    info = Path("/proc/meminfo")  # Linux alone
    if not info.is_file():
        return math.inf
    lines = dict(line.split(":") for line in info.read_text("utf-8").splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    return min(available, *_free_of_groups(), math.inf) / 2**30


def _free_of_groups() -> Iterator[float]:
    """What the control groups (version 2) of this process leave it: a container's limit."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text("utf-8").splitlines() if own.is_file() else []
    inner = next((line[4:] for line in lines if line.startswith("0::/")), "")
    for folder in (CGROUPS / inner, *(CGROUPS / inner).parents):
        limit = folder / "memory.max"
        if folder.is_relative_to(CGROUPS) and limit.is_file() and "max" not in limit.read_text():
            used = int((folder / "memory.current").read_text())
            parts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield int(limit.read_text()) - used + int(parts["inactive_file"])


def let_gptqmodel_work() -> None:
    """Give gptqmodel the two workers that it asks for, however few processors there are.

    It reads that when it is imported.
    """
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, count_cpus())))


def count_cpus() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_gib(device: str) -> float:
    """The most memory that this process has had on a device."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**30)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
