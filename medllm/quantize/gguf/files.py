"""GGUF files: llama.cpp's own converter, its own quantizer, and a look at what they wrote."""

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medllm import console
from medllm.engines.llama_cpp_setup import converter_script
from medllm.engines.llama_native import load_llama_cpp
from medllm.errors import ArtifactError, SetupError
from medllm.models.children import following
from medllm.models.hardware import count_cpus
from medllm.quantize.gguf.architectures import check_architecture
from medllm.quantize.gguf.types import QUANTIZATION_TYPES

SUPER_BLOCK = 256  # QK_K of ggml-common.h: K-quants, IQ1 to IQ3 and IQ4_XS cut rows into these
SUPER_BLOCKED = re.compile(r"^(Q\d_K|IQ[123]|IQ4_XS)")
PLAIN_TYPES = frozenset({"f32", "f16", "bf16"})

LONGEST_NOTE = 127  # bytes; `llama_model_kv_override` of llama.h has 128 with the null

CONVERTER_ERROR = re.compile(r"^(?:ERROR:[\w.-]+:\s*)(.+)|^(\w*(?:Error|Exception)\b.*)")
MISSING_MODULE = re.compile(r"No module named '([\w.]+)'")
CONFIGURATIONS = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a GGUF file: its type ("q4_K", "f32") and the length of its rows."""

    name: str
    type: str
    columns: int


def convert_to_f16(
    model_dir: Path, target: Path, *, title: str | None = None, projector: bool = False
) -> None:
    """Write the model in a Hugging Face folder as a GGUF file of 16-bit floats.

    With `projector` it is the part that turns images or sound into what the model reads. `title` is
    its `general.name`, by default the folder's; licence, base, tags and datasets are those of the
    card in the folder.

    Raises:
        ArtifactError: llama.cpp does not know the architecture or the tokenizer, or the model
            brings Python code.
        SetupError: the converter is not set up, lacks a module, or was killed for its memory.
    """
    _check_no_remote_code(model_dir)
    check_architecture(model_dir)
    script = converter_script()
    environment = _converter_environment(script)
    with _written_at_once(target) as partial:
        command = [sys.executable, str(script), str(model_dir), "--outtype", "f16"]
        command += ["--outfile", str(partial), *(["--mmproj"] if projector else [])]
        command += ["--model-name", title] if title else []
        finished = subprocess.run(
            following(command), env=environment, capture_output=True, check=False
        )
        if finished.returncode != 0:
            raise _conversion_error(model_dir, finished)


def quantize_file(
    source: Path,
    target: Path,
    type_name: str,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    notes: Mapping[str, str | int] | None = None,
) -> None:
    """Write `source`, a GGUF file of floats, with weights of another type.

    Args:
        source: The file of floats.
        target: The file to write.
        type_name: A name of `gguf_types.QUANTIZATION_TYPES`.
        importance: By names of tensors, what an error in each column weighs.
        notes: Added to the metadata of the file.

    Raises:
        ArtifactError: the source is missing, no GGUF, or quantized already.
        SetupError: llama.cpp is not set up.
    """
    if not source.is_file():
        raise ArtifactError(f"{source}: no such file", "convert the model first")
    llama, log = load_llama_cpp()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = QUANTIZATION_TYPES[type_name]
    parameters.nthread = count_cpus()
    parameters.imatrix = _importance_array(llama, importance or {})
    parameters.kv_overrides = _override_array(llama, notes or {})
    log.clear()
    with _written_at_once(target) as partial:
        paths = (os.fsencode(source), os.fsencode(partial))
        with console.quiet():
            status = llama.llama_model_quantize(*paths, ctypes.byref(parameters))
        if status != 0:
            message = f"{source} cannot be quantized to {type_name}: {log.reason}"
            raise ArtifactError(message, "start from an F16, BF16 or F32 GGUF file")


def read_tensors(path: Path) -> list[Tensor]:
    """The tensors of a GGUF file, from its header.

    Raises:
        ArtifactError: it is missing or no GGUF file.
        SetupError: llama.cpp is not set up.
    """
    with _opened(path) as (library, header):
        return list(_tensors(library, header))


def find_fallbacks(path: Path, type_name: str) -> list[Tensor]:
    """The tensors of a file that `type_name` could not block, so that they got a larger type.

    K-quants need rows of a multiple of 256; llama.cpp takes Q5_0, Q8_0, IQ4_NL or F16 for others.
    """
    if not SUPER_BLOCKED.match(type_name):
        return []
    odd = [tensor for tensor in read_tensors(path) if tensor.columns % SUPER_BLOCK]
    # norms and biases, which are not quantized, stay f32; rows that no type can block become f16
    return [t for t in odd if t.type not in PLAIN_TYPES or (t.type == "f16" and t.columns % 32)]


def read_architecture(path: Path) -> str:
    """llama.cpp's name of the architecture of the model in a GGUF file, such as "llama"."""
    with _opened(path) as (library, header):
        key = library.gguf_find_key(header, b"general.architecture")
        return str(library.gguf_get_val_str(header, key).decode())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int]]:
    """The library and the header of a GGUF file; raises as `read_tensors`."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", "give the path of a .gguf file")
    library, log = _gguf_functions()
    log.clear()
    with console.quiet():
        header = library.gguf_init_from_file(os.fsencode(path), _InitParameters(no_alloc=True))
    if not header:
        raise ArtifactError(f"{path} is no GGUF file: {log.reason}", "make it again")
    try:
        yield library, header
    finally:
        library.gguf_free(header)


@contextmanager
def _written_at_once(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` when all went well, else it is removed."""
    # a name of its own: the converter of a killed run may still be writing
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.partial"):
        left.unlink()
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _check_no_remote_code(model_dir: Path) -> None:
    """The converter loads tokenizers with `trust_remote_code=True`: refuse what would make it run.

    Raises:
        ArtifactError: a configuration names Python classes of its own.
    """
    for name in CONFIGURATIONS:
        path = model_dir / name
        if path.is_file() and "auto_map" in json.loads(path.read_text(encoding="utf-8")):
            message = f"{path} names Python code ('auto_map') that the conversion would run"
            raise ArtifactError(message, "remove 'auto_map' if transformers has the classes itself")


def _converter_environment(script: Path) -> dict[str, str]:
    """Its own gguf package, which differs from the one on PyPI, and no network."""
    ours = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(script.parent / "gguf-py")}
    return {name: value for name, value in os.environ.items() if name != "NO_LOCAL_GGUF"} | ours


def _conversion_error(
    model_dir: Path, finished: subprocess.CompletedProcess[bytes]
) -> ArtifactError | SetupError:
    what = f"{model_dir} cannot be converted to GGUF"
    if finished.returncode < 0:
        message = f"{what}: the converter was killed by signal {-finished.returncode}"
        return SetupError(message, "free memory (it needs about that of one shard), try again")
    output = (finished.stderr or finished.stdout).decode(errors="replace")
    lines = ["the converter said nothing", *filter(None, map(str.strip, output.splitlines()))]
    errors = [found[1] or found[2] for line in lines if (found := CONVERTER_ERROR.match(line))]
    reason = (errors or lines)[-1]
    if module := MISSING_MODULE.search(reason):
        fix = f"`{sys.executable} -m pip install {module[1]}`"
        return SetupError(f"{what}: {reason}", fix)
    fix = "use an architecture and a tokenizer that llama.cpp knows, or another --format"
    return ArtifactError(f"{what}: {reason}", fix)


def _importance_array(llama: ModuleType, importance: Mapping[str, NDArray[np.float32]]) -> Any:
    """The C array that llama_model_quantize takes, ended by a null name; None where it is empty."""
    if not importance:
        return None
    kind = llama.llama_model_imatrix_data
    floats = ctypes.POINTER(ctypes.c_float)
    entries = [  # it points into `importance`, which must live as long
        kind(name.encode(), weights.ctypes.data_as(floats), len(weights))
        for name, weights in importance.items()
    ]
    return (kind * (len(entries) + 1))(*entries)


def _override_array(llama: ModuleType, notes: Mapping[str, str | int]) -> Any:
    """Metadata as a C array ended by an empty key."""
    array = (llama.llama_model_kv_override * (len(notes) + 1))()
    for entry, (key, value) in zip(array, notes.items(), strict=False):
        entry.key = key.encode()
        if isinstance(value, int):
            entry.tag, entry.value.val_i64 = llama.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            entry.tag = llama.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = value.encode()[:LONGEST_NOTE]
    return array


class _InitParameters(ctypes.Structure):
    """`struct gguf_init_params` of gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def _gguf_functions() -> tuple[Any, Any]:
    """The library, with the signatures of what llama-cpp-python does not bind, and its log.

    gguf-py's own reader makes Python objects of each token of the vocabulary: for the header of a
    model of 151,000 tokens it takes 7 s and 490 MiB, these functions 0.06 s and 19 MiB. It also
    imports `gguf` by that name, which may be another version than the converter's.
    """
    llama, log = load_llama_cpp()
    library = ctypes.CDLL(llama.llama_cpp._lib._name)  # its symbols include those of ggml
    pointer, index = ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, tuple[Any, ...]] = {  # the result, then the arguments
        "gguf_init_from_file": (pointer, ctypes.c_char_p, _InitParameters),
        "gguf_free": (None, pointer),
        "gguf_get_n_tensors": (index, pointer),
        "gguf_get_tensor_name": (ctypes.c_char_p, pointer, index),
        "gguf_get_tensor_type": (ctypes.c_int, pointer, index),
        "gguf_get_tensor_ne": (ctypes.POINTER(index), pointer, index),
        "gguf_find_key": (index, pointer, ctypes.c_char_p),
        "gguf_get_val_str": (ctypes.c_char_p, pointer, index),
        "ggml_type_name": (ctypes.c_char_p, ctypes.c_int),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library, log


def _tensors(library: Any, header: int) -> Iterator[Tensor]:
    for index in range(library.gguf_get_n_tensors(header)):
        type_number = library.gguf_get_tensor_type(header, index)
        yield Tensor(
            name=library.gguf_get_tensor_name(header, index).decode(),
            type=library.ggml_type_name(type_number).decode(),
            columns=int(library.gguf_get_tensor_ne(header, index)[0]),
        )
