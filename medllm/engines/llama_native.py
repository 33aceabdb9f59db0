"""llama.cpp's C interface, made bearable: the library, silenced, its log, its batches and samplers.

`llama_cpp` is imported when it is needed, never before: it is an extra, built by
`medllm doctor --set-up-llama-cpp`. Its objects are ctypes, hence `Any`.
"""

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from medllm import console
from medllm.engines.base import Sampling
from medllm.models.llama_cpp_setup import require_llama_cpp

BATCH_TOKENS = 512  # tokens per pass; also bounds the buffer of logits (512 × vocabulary × 4 bytes)
SEQUENCE = 0  # all rows are evaluated in one sequence of the cache
ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR in ggml.h; llama-cpp-python's own table is off by one


class NativeLog:
    """The last errors that llama.cpp logged; from its making on, llama.cpp prints nothing."""

    def __init__(self, llama: ModuleType) -> None:
        """Take over the log of the library."""
        self._errors: deque[str] = deque(maxlen=20)
        self._callback = llama.llama_log_callback(self._keep)  # C holds no reference to it
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _keep(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            self._errors.append(text.decode(errors="replace").strip())

    def clear(self) -> None:
        """Forget what was logged."""
        self._errors.clear()

    @property
    def reason(self) -> str:
        """The first error since `clear`, which later ones only pass on, without its C function."""
        if not self._errors:
            return "llama.cpp gave no reason"
        function, _, message = self._errors[0].partition(": ")
        return message if message and " " not in function else self._errors[0]


@cache
def load_llama_cpp() -> tuple[ModuleType, NativeLog]:
    """The module `llama_cpp`, initialised and silent, and its log.

    Raises:
        SetupError: llama.cpp is not set up.
    """
    llama = require_llama_cpp()
    with console.quiet():
        log = NativeLog(llama)
        llama.llama_backend_init()
    return llama, log


def model_parameters(llama: ModuleType) -> Any:
    """Default parameters to load a model with, without the matrix unit AMX.

    GCC 12 compiles llama.cpp's AMX code wrongly: `_tile_loadconfig` tells it that 8 of 64 bytes are
    read, so it drops the other stores, and the first pass of a quantized model is a segmentation
    fault (ggml-org/llama.cpp#20824). Our own builds have no AMX; other people's may.
    """
    parameters = llama.llama_model_default_params()
    parameters.use_extra_bufts = b"AMX_INT8 = 1" not in llama.llama_print_system_info()
    return parameters


class Batch:
    """A `llama_batch` of up to `BATCH_TOKENS` tokens, its arrays seen through numpy."""

    def __init__(self, llama: ModuleType) -> None:
        """Allocate it."""
        self._llama = llama
        self._batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
        shape = (BATCH_TOKENS,)
        self._tokens = np.ctypeslib.as_array(self._batch.token, shape)
        self._positions = np.ctypeslib.as_array(self._batch.pos, shape)
        self._wanted = np.ctypeslib.as_array(self._batch.logits, shape)
        np.ctypeslib.as_array(self._batch.n_seq_id, shape)[:] = 1
        for i in range(BATCH_TOKENS):
            self._batch.seq_id[i][0] = SEQUENCE

    def fill(self, tokens: Sequence[int], begin: int, silent: int) -> Any:
        """The batch, with tokens for the positions from `begin` on; `silent` of them no logits."""
        count = len(tokens)
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(begin, begin + count)
        self._wanted[:count] = np.arange(count) >= silent
        self._batch.n_tokens = count
        return self._batch

    def free(self) -> None:
        """Free its memory."""
        self._llama.llama_batch_free(self._batch)


@contextmanager
def sampler_chain(llama: ModuleType, sampling: Sampling) -> Iterator[Any]:
    """A chain of samplers; temperature comes before top-p, as in transformers."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in _samplers(llama, sampling):
        llama.llama_sampler_chain_add(chain, sampler)
    try:
        yield chain
    finally:
        llama.llama_sampler_free(chain)


def _samplers(llama: ModuleType, sampling: Sampling) -> Iterator[Any]:
    if sampling.temperature <= 0:
        yield llama.llama_sampler_init_greedy()
        return
    yield llama.llama_sampler_init_temp(sampling.temperature)
    if sampling.top_p < 1:
        yield llama.llama_sampler_init_top_p(sampling.top_p, 1)
    seed = llama.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed
    yield llama.llama_sampler_init_dist(seed)
