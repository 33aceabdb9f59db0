"""What the C library does with freed memory."""

import ctypes
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from medllm.models.hardware import returning_memory

BLOCK = 24 * 2**20
LIBRARY = ctypes.CDLL(None)


class Counts(ctypes.Structure):
    """What glibc's mallinfo2 tells; `hblkhd` are bytes outside its arenas."""

    _fields_ = (
        ("others", ctypes.c_size_t * 4),
        ("hblkhd", ctypes.c_size_t),
        ("more", ctypes.c_size_t * 5),
    )


@pytest.mark.skipif(not hasattr(LIBRARY, "mallinfo2"), reason="not glibc 2.33 or newer")
def test_large_blocks_are_kept_outside_the_arenas_while_memory_is_returned() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # no arena has such a block free
        meanwhile, afterwards = fresh.submit(bytes_meanwhile_and_afterwards).result()

    assert meanwhile >= BLOCK
    assert afterwards == 0


def bytes_meanwhile_and_afterwards() -> tuple[int, int]:
    """What `returning_memory` does to this process."""
    with returning_memory():
        meanwhile = bytes_outside_arenas()
    return meanwhile, bytes_outside_arenas()


def bytes_outside_arenas() -> int:
    """Of one block that is taken and freed."""
    LIBRARY.mallinfo2.restype = Counts
    LIBRARY.malloc.restype = ctypes.c_void_p
    before = LIBRARY.mallinfo2().hblkhd
    block = LIBRARY.malloc(ctypes.c_size_t(BLOCK))
    taken = LIBRARY.mallinfo2().hblkhd - before
    LIBRARY.free(ctypes.c_void_p(block))
    return int(taken)
