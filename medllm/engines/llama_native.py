"""llama.cpp's library, made bearable: loaded, silenced, its errors kept, its samplers chained.

`llama_cpp` is imported when it is needed, never before: it is an extra, built by
`medllm doctor --set-up-llama-cpp`. Its objects are ctypes, hence `Any`.
"""

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from medllm import console
from medllm.engines.base import Sampling
from medllm.engines.llama_cpp_setup import require_llama_cpp
from medllm.errors import ArtifactError

ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR in ggml.h; llama-cpp-python's own table is off by one


SETTINGS = {"temp": 1, "top_k": 0, "top_p": 1, "min_p": 0, "penalty_repeat": 1, "penalty_last_n": 0,
            "xtc_probability": 0, "mirostat": 0}  # fmt: skip
"""The numbers below `general.sampling.` in a GGUF file, with the values that ask for nothing."""


class NativeLog(deque[str]):
    """The last errors that llama.cpp logged; from its making on, llama.cpp prints nothing."""

    def __init__(self, llama: ModuleType) -> None:
        """Take over the log of the library."""
        super().__init__(maxlen=20)
        self._callback = llama.llama_log_callback(self._keep)  # C holds no reference to it
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _keep(self, level: int, text: bytes, _: object) -> None:
        if level == ERROR_LEVEL:
            self.append(text.decode(errors="replace").strip())

    @property
    def reason(self) -> str:
        """The first error since `clear`, which later ones only pass on, without its C function."""
        first = self[0] if self else "llama.cpp gave no reason"
        function, _, message = first.partition(": ")
        return message if message and " " not in function else first


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
    """Default parameters to load a model with: its weights checked for NaN, and without AMX.

    GCC 12 compiles llama.cpp's AMX code wrongly: `_tile_loadconfig` tells it that 8 of 64 bytes are
    read, so it drops the other stores, and the first pass of a quantized model is a segmentation
    fault (ggml-org/llama.cpp#20824). Our own builds have no AMX; other people's may.
    """
    parameters = llama.llama_model_default_params()
    parameters.check_tensors = True
    parameters.use_extra_bufts = b"AMX_INT8 = 1" not in llama.llama_print_system_info()
    return parameters


def build_sampler(
    llama: ModuleType, sampling: Sampling, prompt: Sequence[int], n_vocab: int, room: int
) -> Any:
    """A chain of samplers in the order of `Sampling`; `room` are the tokens of the context."""
    chain = llama._internals.LlamaSampler()
    if sampling.logit_bias:
        chain.add_logit_bias(n_vocab, dict(sampling.logit_bias))
    if sampling.has_penalties:
        _add_penalties(chain, sampling, prompt, n_vocab, room)
    if sampling.is_greedy:
        chain.add_greedy()
        return chain
    chain.add_temp(sampling.temperature)
    if sampling.top_k:
        chain.add_top_k(sampling.top_k)
    chain.add_top_p(sampling.top_p)
    if sampling.min_p:
        chain.add_min_p(sampling.min_p)
    chain.add_dist(llama.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed_32)
    return chain


def _add_penalties(
    chain: Any, sampling: Sampling, prompt: Sequence[int], n_vocab: int, room: int
) -> None:
    """Two samplers: repetition counts the prompt, too, the others the answer alone."""
    chain.add_penalties(n_vocab, room, sampling.repetition_penalty, 0.0, 0.0)
    for token in prompt:
        chain.accept(token)
    frequency, presence = sampling.frequency_penalty, sampling.presence_penalty
    chain.add_penalties(n_vocab, room, 1.0, frequency, presence)


def read_settings(llama: ModuleType, model: Any) -> dict[str, float]:
    """The sampling that a GGUF file asks for, by llama.cpp's names.

    Its converter writes them from a `generation_config.json`, and its own programs heed them.
    """
    buffer, found = ctypes.create_string_buffer(64), {}
    for name, neutral in SETTINGS.items():
        key = f"general.sampling.{name}".encode()
        if llama.llama_model_meta_val_str(model, key, buffer, len(buffer)) > 0:
            value = float(buffer.value)
            if value != neutral:
                found[name] = value
    return found


def read_window(path: Path) -> int:
    """The sliding window that llama.cpp computes with for a GGUF file, in tokens; 0 for none."""
    return _read_size(path, "llama_model_n_swa")


def read_trained_context(path: Path) -> int:
    """The longest context that the model of a GGUF file was made for, in tokens; 0 for unknown."""
    return _read_size(path, "llama_model_n_ctx_train")


def _read_size(path: Path, function: str) -> int:
    """What a function of llama.cpp's tells of a model.

    Raises:
        ArtifactError: it is no GGUF file that llama.cpp can load.
    """
    llama, log = load_llama_cpp()
    log.clear()
    with console.quiet():  # the weights are mapped; `no_alloc`, which would spare that, aborts
        model = llama.llama_model_load_from_file(os.fsencode(path), model_parameters(llama))
    if not model:
        fix = (
            "make it again; where it was made just now, llama.cpp lacks this model: another format"
        )
        raise ArtifactError(f"{path} cannot be loaded by llama.cpp: {log.reason}", fix)
    try:
        return int(getattr(llama, function)(model))
    finally:
        llama.llama_model_free(model)
