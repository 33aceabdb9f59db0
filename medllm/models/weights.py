"""Weights on disk: safetensors, read and written piece by piece, so that memory stays flat.

The format (https://github.com/huggingface/safetensors#format) is a length, a JSON header and the
tensors' bytes. The library maps whole files into memory and writes whole dictionaries.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from medllm.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor, dtype

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PIECE_BYTES = 2**22
IN_LAYER = re.compile(r"(^|\.)(layers|h|blocks)\.\d+\.")
MOST_HEADER_BYTES = 100_000_000
"""The library's own limit, `MAX_HEADER_SIZE`."""
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Number formats by their names in a header, and in torch."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file, not read yet."""

    name: str
    path: Path
    format: str
    """As the header calls it: "BF16", "I64" …"""
    shape: tuple[int, ...]
    begin: int
    """Where its bytes begin in the file."""
    size: int
    """In bytes."""

    @cached_property
    def dtype(self) -> "dtype":
        """Its number format in torch; of floats only."""
        return torch_dtype(self.format)

    @property
    def rows(self) -> int:
        """Its first dimension."""
        return self.shape[0] if self.shape else 1

    @property
    def is_float(self) -> bool:
        """Whether it holds floats of 16 bits or more."""
        return self.format in FLOATS

    def read(self, first: int = 0, last: int | None = None) -> "Tensor":
        """Rows `first` up to `last`, which is not in it; all by default."""
        import torch

        last = self.rows if last is None else last
        row = self.size // max(self.rows, 1)
        raw = np.fromfile(
            self.path, np.uint8, count=(last - first) * row, offset=self.begin + first * row
        )
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        return torch.from_numpy(raw).view(self.dtype).reshape(shape)

    def in_rows(self) -> Iterator["Tensor"]:
        """It, some rows at a time; of floats only."""
        step = max(1, PIECE_BYTES // max(self.size // max(self.rows, 1), 1))
        for first in range(0, self.rows, step):
            yield self.read(first, min(first + step, self.rows))

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            left = self.size
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                left -= len(piece)
                yield piece


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: what the header says of it, and where its bytes come from."""

    name: str
    format: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[bytes | memoryview]]

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * WIDTHS[self.format]


WIDTHS = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}
"""Bytes of a number."""


def torch_dtype(format: str) -> "dtype":
    """Torch's number format of a name in a header."""
    import torch

    found: torch.dtype = getattr(torch, FLOATS[format])
    return found


def is_in_layer(name: str) -> bool:
    """Whether a tensor is one of a layer's: `h` in GPT-2, Falcon and BLOOM, `blocks` in MPT."""
    return IN_LAYER.search(name) is not None


def read_weights(folder: Path) -> dict[str, Stored]:
    """The tensors of a model folder by name, shard after shard, from the headers alone.

    Raises:
        ArtifactError: no safetensors, a shard that is missing, or one that is cut off.
    """
    return {name: tensor for path in _shards(folder) for name, tensor in read_header(path).items()}


def stored_dtype(tensors: Iterable[Stored]) -> str:
    """Torch's name of the number format that most floats have, by bytes; "float32" of none."""
    sizes = Counter[str]()
    for tensor in tensors:
        if tensor.is_float:
            sizes[FLOATS[tensor.format]] += tensor.size
    return sizes.most_common(1)[0][0] if sizes else "float32"


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file, in the order that they lie in it.

    Raises:
        ArtifactError: it is no safetensors file, or it is cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length < min(size, MOST_HEADER_BYTES) else b""
    except OSError as problem:
        fix = "check its permissions, or get it again from the model's source"
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}", fix) from problem
    try:
        entries = _entries(path, json.loads(raw), 8 + length)
        found = sorted(entries, key=lambda tensor: (tensor.begin, tensor.size))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _broken(path) from problem
    _check_lies_whole(path, found, 8 + length, size)
    return {tensor.name: tensor for tensor in found}


def _check_lies_whole(path: Path, found: Sequence[Stored], begin: int, end: int) -> None:
    """Raise ArtifactError unless the tensors fill the file, each as large as its shape says."""
    for tensor in found:
        width = WIDTHS.get(tensor.format)  # none of a format with less than 8 bits
        fits = width is None or tensor.size == prod(tensor.shape) * width
        if tensor.begin != begin or tensor.size < 0 or min(tensor.shape, default=0) < 0 or not fits:
            raise _broken(path)
        begin += tensor.size
    if begin != end:
        raise _broken(path)


def _entries(path: Path, header: Mapping[str, Any], start: int) -> Iterator[Stored]:
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            yield Stored(name, path, entry["dtype"], shape, start + begin, end - begin)


def _broken(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} is cut off or broken", "get it again from the model's source")


def _shards(folder: Path) -> list[Path]:
    """The files of a model's weights, whatever else lies beside them."""
    index = folder / INDEX
    names = [SINGLE]
    if index.is_file() and not (folder / SINGLE).is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(places.values()))
            outside = [name for name in names if Path(name).name != name]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise ArtifactError(f"{index} is broken: {problem}", "restore it") from problem
        if outside:
            raise ArtifactError(f"{index} names {outside[0]}, which is elsewhere", "restore it")
    if folder.is_file():
        message = f"{folder} is one file; here the model's folder of safetensors is needed"
        raise ArtifactError(message, "name the model that the file was made from")
    for name in names:
        if not (folder / name).is_file():
            if name == SINGLE and any(folder.glob("pytorch_model*.bin")):
                message = f"{folder}: its weights are pickles (.bin), which are not read"
                fix = "get it as safetensors, or load and save it again with transformers"
                raise ArtifactError(message, fix)
            message = f"{folder}: its weights are not whole: {name} is missing"
            raise ArtifactError(message, "get it again from the model's source, as safetensors")
    return [folder / name for name in names]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, an adapter or a quantized model.

    Not Mistral's `consolidated*.safetensors`: beside the others they are the same model once more.
    """
    files = sorted(folder.glob("*.safetensors"))
    return [path for path in files if not path.name.startswith("consolidated")] or files


def write_weights(folder: Path, shards: Mapping[str, Sequence[Planned]]) -> None:
    """Write the shards, by their file names, and the index where there are several."""
    for name, tensors in shards.items():
        with (folder / name).open("wb") as file:
            _write_shard(file, tensors)
    if len(shards) > 1 or SINGLE not in shards:
        total = sum(tensor.size for tensors in shards.values() for tensor in tensors)
        places = {tensor.name: name for name, tensors in shards.items() for tensor in tensors}
        index: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _write_shard(file: BinaryIO, tensors: Sequence[Planned]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        offsets = [at, at + tensor.size]
        header[tensor.name] = {
            "dtype": tensor.format,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        at = offsets[1]
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # the tensors begin at a multiple of 8
    file.write(len(raw).to_bytes(8, "little") + raw)
    for tensor in tensors:
        for piece in tensor.pieces():
            file.write(piece)


def as_bytes(tensor: "Tensor") -> memoryview:
    """The bytes of a tensor on the processor, not copied."""
    import torch

    return memoryview(tensor.contiguous().view(torch.uint8).numpy()).cast("B")
