"""The importance matrix of GGUF: how strongly calibration text drives each column of each weight.

What llama.cpp's `llama-imatrix` computes, here with the transformers model, on any device. For each
linear layer, and for each expert of a layer of experts, the squares of its inputs are summed by
column; errors of a weight count for as much.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medllm import console
from medllm.artifacts.gguf_files import IMATRIX
from medllm.engines.llama_cpp_setup import import_gguf
from medllm.errors import ArtifactError, DataError
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef, load_causal_lm
from medllm.models.memory import release_gpu
from medllm.models.offload import is_offloaded
from medllm.quantize.calibration import Calibration
from medllm.quantize.gguf import files
from medllm.quantize.gguf.experts import listening_to_experts, rarely_reached, say_rarely_reached
from medllm.quantize.gguf.squares import Squares
from medllm.quantize.gguf.types import NEEDS_IMPORTANCE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHUNK_TOKENS = 512  # n_ctx of llama-imatrix
CHUNKS_AT_ONCE = 4  # its n_batch of 2048 tokens
CHUNKS_OFFLOADED = 16  # where each pass reads the whole model from the disk, or fills a GPU
FEW_CHUNKS = 32
"""Below this, a column that matters may hardly be driven; llama.cpp's users take 100 and more."""


@dataclass(frozen=True)
class Matrix:
    """The sums of every layer, by its name in the model, or by its tensor's in a GGUF file."""

    layers: dict[str, Squares]
    mix: str
    texts: int
    chunks: int
    chunk_tokens: int
    unmeasured: tuple[str, ...] = ()
    """Tensors of a GGUF file that no measured layer stands for."""
    rare: dict[str, int] = field(default_factory=dict)
    """The tokens of each expert that calibration hardly reached, by its name in the model."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What llama-quantize hands to the quantizer: the importance, and notes for the file."""
        notes = {
            "quantize.imatrix.file": IMATRIX,
            "quantize.imatrix.dataset": self.mix,
            "quantize.imatrix.entries_count": len(self.layers),
            "quantize.imatrix.chunks_count": self.chunks,
        }
        importance = {name: layer.importance for name, layer in self.layers.items()}
        return {"importance": importance, "notes": notes}

    @property
    def figures(self) -> dict[str, Any]:
        """What is recorded of it."""
        tokens = self.chunks * self.chunk_tokens
        sizes = {"chunks": self.chunks, "tokens": tokens, "weighted_tensors": len(self.layers)}
        return sizes | ({"rarely_reached_experts": self.rare} if self.rare else {})


def measure_inputs(model: ModelRef, calibration: Calibration, dtype: Dtype = "auto") -> Matrix:
    """The matrix of a model over calibration texts, by names of its layers.

    Raises:
        DataError: there is no text.
        ArtifactError: the model overflows.
    """
    rows = calibration.token_ids
    loaded = load_causal_lm(model.location, dtype=dtype)
    size = min(CHUNK_TOKENS, getattr(loaded.config, "max_position_embeddings", CHUNK_TOKENS))
    chunks = cut_chunks(rows, size, _bos_of(calibration.tokenizer))
    if not chunks.size:
        raise DataError(f"{calibration.texts}: no text", "make it again with `medllm calibrate`")
    if len(chunks) < FEW_CHUNKS:
        few = f"{len(chunks)} × {chunks.shape[1]} calibration tokens are few"
        console.notice(f"quantize: {few}; {FEW_CHUNKS} × {size} or more give a better matrix")
    layers = _measure(loaded, chunks)
    del loaded
    release_gpu()
    if overflown := [name for name, layer in layers.items() if not np.isfinite(layer.sums).all()]:
        message = f"{model.location}: the inputs of {overflown[0]} are not finite numbers"
        raise ArtifactError(message, "check the model; a merge of it may have gone wrong")
    rare = rarely_reached(layers)
    say_rarely_reached(rare)
    return Matrix(layers, calibration.mix, len(rows), len(chunks), chunks.shape[1], rare=rare)


def cut_chunks(rows: Iterable[Sequence[int]], size: int, bos: int | None) -> NDArray[np.int64]:
    """Token ids (chunks, size): text after text, BOS in place of each chunk's first token.

    As in llama.cpp's tools/imatrix/imatrix.cpp, what does not fill a chunk at the end is left out.
    Less than one chunk is a smaller chunk.
    """
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
    size = max(min(size, len(ids)), 1)
    chunks = ids[: len(ids) // size * size].reshape(-1, size)
    if bos is not None:
        chunks[:, 0] = bos
    return chunks


def name_tensors(matrix: Matrix, file: Path) -> Matrix:
    """The matrix by the names that the tensors have in a GGUF file of the same model.

    Raises:
        ArtifactError: none of its layers has a tensor there.
    """
    wanted = {
        tensor.name: tensor.columns
        for tensor in files.read_tensors(file)
        if tensor.name.startswith("blk.") and tensor.type == "f16"
    }
    blocks = max((int(name.split(".")[1]) for name in wanted), default=0) + 1
    find = _name_finder(file, blocks)
    named = {find(part): layer for name, layer in matrix.layers.items() for part in _parts_of(name)}
    layers = {
        name: layer
        for name, layer in sorted(named.items())
        if layer.tokens.any() and wanted.get(name) == layer.columns
    }
    if not layers:
        message = f"{file.name}: no layer of the model has a tensor by a name that llama.cpp knows"
        raise ArtifactError(message, "quantize without a calibration set")
    return replace(matrix, layers=layers, unmeasured=tuple(sorted(wanted.keys() - layers.keys())))


def write_imatrix(matrix: Matrix, target: Path) -> None:
    """Write it as llama-imatrix does, so that llama.cpp's own tools read it."""
    library = import_gguf("gguf_writer")

    class Writer(library.GGUFWriter):  # type: ignore[misc, name-defined]
        def add_architecture(self) -> None:
            """None: a matrix has no architecture."""

    writer = Writer(target, arch="")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [matrix.mix])
    writer.add_uint32("imatrix.chunk_count", matrix.chunks)
    writer.add_uint32("imatrix.chunk_size", matrix.chunk_tokens)
    for name, layer in matrix.layers.items():
        writer.add_tensor(f"{name}.in_sum2", layer.sums.astype(np.float32))
        writer.add_tensor(f"{name}.counts", layer.tokens.astype(np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_is_enough(matrix: Matrix, type_name: str) -> None:
    """Say which tensors have no importance.

    Raises:
        ArtifactError: the type needs it for each.
    """
    if not matrix.unmeasured:
        return
    first = ", ".join(matrix.unmeasured[:3])
    found = f"{len(matrix.unmeasured)} tensors have no importance ({first} …)"
    if type_name in NEEDS_IMPORTANCE:
        message = f"{found}, and {type_name} needs it for each"
        raise ArtifactError(message, "choose a type that does not need it, such as Q2_K or IQ3_S")
    console.notice(f"quantize: {found}; they are quantized without")


def _bos_of(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The BOS token, if the tokenizer puts it before a text."""
    first: list[int] = tokenizer("")["input_ids"][:1]
    return first[0] if first and first[0] == tokenizer.bos_token_id else None


def _measure(model: "PreTrainedModel", chunks: NDArray[np.int64]) -> dict[str, Squares]:
    """The sums of each linear layer of the model, its head left out as llama-imatrix does."""
    import torch

    layers: dict[str, Squares] = {}
    total = len(chunks)
    is_large = is_offloaded(model) or model.device.type == "cuda"
    at_once = CHUNKS_OFFLOADED if is_large else CHUNKS_AT_ONCE
    with (
        torch.inference_mode(),
        _listening(model, layers),
        listening_to_experts(model, layers),
        console.progress("quantize: importance matrix, chunks", total) as advance,
    ):
        for start in range(0, total, at_once):
            batch = torch.from_numpy(chunks[start : start + at_once])
            model.base_model(input_ids=batch.to(model.device), use_cache=False)
            advance(len(batch))
    for layer in layers.values():
        layer.settle()
    return layers


@contextmanager
def _listening(model: "PreTrainedModel", layers: dict[str, Squares]) -> Iterator[None]:
    """Meanwhile what every linear layer is given is added to `layers`."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers

    summing = _Summing()
    hooks = [
        module.register_forward_pre_hook(partial(_add, layers, summing, name))
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(
    layers: dict[str, Squares], summing: "_Summing", name: str, _: Any, inputs: tuple["Tensor"]
) -> None:
    tokens = inputs[0].numel() // inputs[0].shape[-1]
    layers.setdefault(name, Squares()).add(summing.squares_of(inputs[0]), tokens)


@dataclass
class _Summing:
    """Sums of squares by column; query, key and value share one input, so it is summed once."""

    inputs: Any = None
    sums: Any = None

    def squares_of(self, inputs: "Tensor") -> "Tensor":
        if inputs is not self.inputs:
            self.inputs = inputs
            rows = inputs.reshape(-1, inputs.shape[-1])
            is_on_gpu = rows.device.type == "cuda"
            self.sums = sum_in_one_pass(rows) if is_on_gpu else rows.float().square().sum(0)
        return self.sums


def sum_in_one_pass(rows: "Tensor") -> "Tensor":
    """The sums of squares by column, in float32, without a copy of the rows in that format.

    Off by 1e-5 of each at most, as measured with 8,192 rows added one after the other.
    """
    import torch

    return torch.linalg.vector_norm(rows, dim=0, dtype=torch.float32).square()


def _parts_of(layer: str) -> Iterator[str]:
    """The layer's name, and those that the converter gives to the halves of a fused weight."""
    yield layer
    yield layer.replace("gate_up_proj", "gate_proj")
    yield layer.replace("gate_up_proj", "up_proj")


def _name_finder(file: Path, blocks: int) -> Callable[[str], str]:
    """A function from a layer's name in transformers to its tensor's, "" where there is none."""
    constants, mapping = import_gguf("constants"), import_gguf("tensor_mapping")
    name = files.read_architecture(file)
    architecture = next(key for key, value in constants.MODEL_ARCH_NAMES.items() if value == name)
    names = mapping.get_tensor_name_map(architecture, blocks)

    def find(layer: str) -> str:
        # the converter, too, drops what a model of text and images puts before its text model
        found = names.get_name(layer) or names.get_name(layer.replace("language_model.", ""))
        return f"{found}.weight" if found else ""

    return find
