"""Too little memory, and a GPU that fails in the middle, as an error with its remedy."""

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medllm.errors import SetupError

OF_THE_PROCESSOR = ("DefaultCPUAllocator", "not enough memory", "Unable to allocate")
"""What torch on Linux, torch on Windows and NumPy say where the processor's memory is too small."""
OF_A_GPU = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What CUDA's driver and libraries say where torch's allocator is not asked, and Apple's MPS."""
FAILURE = re.compile(
    r"CUDA (driver )?error: (.*(busy or unavailable|no kernel image|ECC|NVLink|"
    r"hardware|launch failure|launch timed out|unknown error|no CUDA-capable).*)"
)
"""What CUDA says of a GPU that is taken, failed or cannot run the code, and not of a mistake in it:
https://docs.nvidia.com/cuda/cuda-runtime-api/, `cudaError`."""
M_ARENA_MAX = -8  # malloc.h of glibc
LOOK = "`nvidia-smi` and `dmesg` (lines with Xid) say why; then run the same command again"


@contextmanager
def within_memory(command: str, fix: str) -> Iterator[None]:
    """Meanwhile, or as a decorator of a verb: running out of memory is a SetupError.

    Raises:
        SetupError: the memory of the GPU or of the processor was too small, and `fix` says what
            helps; or the GPU failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if failure := gpu_failure(problem):
            raise SetupError(f"{command}: the GPU fails: {failure}", LOOK) from problem
        if not is_out_of_memory(problem):
            raise
        where = "the GPU" if _is_of_gpu(problem) else "this machine"
        raise SetupError(f"{command}: {where} has too little memory", fix) from problem


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error means that memory was too small."""
    if isinstance(problem, MemoryError) or _is_of_gpu(problem):
        return True
    return isinstance(problem, RuntimeError) and any(w in str(problem) for w in OF_THE_PROCESSOR)


def release_gpu() -> None:
    """Give back what PyTorch keeps of the GPU's memory, for another process or library."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()  # layers refer to each other
        torch.cuda.empty_cache()


def release_memory() -> None:
    """Give back what is no longer used: the GPU's memory, and the processor's to the system."""
    gc.collect()
    release_gpu()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed
    if trim is not None:
        trim(0)


def share_heap() -> None:
    """Let all threads from now on take memory from one place, of which more can be given back."""
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if allocator is not None:
        allocator(M_ARENA_MAX, 1)


def used_gib(device: str) -> float | None:
    """The memory that this process holds now: tensors on a GPU, else what is resident; or None."""
    if device == "cuda":
        return float(sys.modules["torch"].cuda.memory_allocated()) / 2**30
    status = Path("/proc/self/status")  # Linux alone
    if device != "cpu" or not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines())
    return int(lines["VmRSS"].split()[0]) / 2**20


def gpu_failure(problem: BaseException) -> str | None:
    """What CUDA says of a GPU that failed; None of any other error."""
    found = FAILURE.search(str(problem)) if isinstance(problem, RuntimeError) else None
    return found[2] if found else None


def _is_of_gpu(problem: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in OF_A_GPU)
