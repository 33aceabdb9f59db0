"""Too little memory, of a GPU or of the processor, as an error with its remedy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from medllm.errors import SetupError

OF_THE_PROCESSOR = ("DefaultCPUAllocator", "not enough memory", "Unable to allocate")
"""What torch on Linux, torch on Windows and NumPy say where the processor's memory is too small."""
OF_A_GPU = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What CUDA's driver and libraries say where torch's allocator is not asked, and Apple's MPS."""


@contextmanager
def within_memory(command: str, fix: str) -> Iterator[None]:
    """Meanwhile, or as a decorator of a verb: running out of memory is a SetupError.

    Raises:
        SetupError: the memory of the GPU or of the processor was too small; `fix` says what helps.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not is_out_of_memory(problem):
            raise
        where = "the GPU" if _is_of_gpu(problem) else "this machine"
        raise SetupError(f"{command}: {where} has too little memory", fix) from problem


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error means that memory was too small."""
    if isinstance(problem, MemoryError) or _is_of_gpu(problem):
        return True
    return isinstance(problem, RuntimeError) and any(w in str(problem) for w in OF_THE_PROCESSOR)


def _is_of_gpu(problem: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in OF_A_GPU)
