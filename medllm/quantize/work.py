"""What the formats of one command share, so that it is done once."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medllm import console
from medllm.artifacts.digest import digest_text
from medllm.artifacts.unfinished import LOCK
from medllm.errors import ArtifactError
from medllm.models.hardware import Dtype, pick_device
from medllm.models.load import ModelRef
from medllm.models.offload import offloading
from medllm.quantize.calibration import Calibration
from medllm.quantize.gguf import files
from medllm.quantize.gguf.imatrix import Matrix, measure_inputs
from medllm.quantize.gguf.squares import Squares


@dataclass(frozen=True)
class Work:
    """The parent, the text that it is calibrated with, and what is made of both on the way."""

    model: ModelRef
    calibration: Calibration | None
    scratch: Path
    """A folder for large files; it outlives a command that was stopped, not one that finished."""
    dtype: Dtype = "auto"
    """What the parent computes in."""

    @cached_property
    def matrix(self) -> Matrix:
        """The importance matrix, in one pass for all types of GGUF."""
        assert self.calibration is not None  # the format said that it calibrates
        kept = self.scratch / "matrix.safetensors"
        if kept.is_file():
            return _read_matrix(kept)
        matrix = measure_inputs(self.model, self.calibration, self.dtype)
        _write_matrix(matrix, kept)
        return matrix

    @cached_property
    def whole(self) -> Path:
        """The parent as a GGUF file of 16-bit floats, which every type is made of."""
        target = self.scratch / "model-F16.gguf"
        if not target.is_file():
            console.notice("quantize: converting to GGUF F16")
            files.convert_to_f16(self.model.path, target)
        return target


@dataclass(frozen=True)
class Made:
    """What a format made of the parent."""

    weights: Path
    """What it is loaded by: its folder, or the .gguf file in it."""
    results: dict[str, Any] = field(default_factory=dict)
    texts: int = 0
    """Calibration texts that were used."""
    device: str | None = None
    layer_errors: dict[str, float] = field(default_factory=dict)
    """The quantizer's own error of each layer, where it gives one."""


def on_processor(said: str) -> str:
    """What a GPU would change, to go on with in a notice; nothing where one computes."""
    return f"; {said}" if pick_device() == "cpu" else ""


def _write_matrix(matrix: Matrix, target: Path) -> None:
    """Keep a matrix, at once, for a run that resumes one that was killed."""
    from safetensors.numpy import save_file

    arrays: dict[str, Any] = {}
    for name, layer in matrix.layers.items():
        arrays |= {f"{name}.sums": layer.sums, f"{name}.tokens": np.array(layer.tokens)}
    known = {each.name for each in fields(matrix)} - {"layers", "unmeasured"}
    about = {name: getattr(matrix, name) for name in sorted(known)}
    partial = target.with_suffix(".partial")
    save_file(arrays, partial, metadata={"matrix": json.dumps(about)})
    partial.replace(target)


def _read_matrix(path: Path) -> Matrix:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["matrix"])
    names = [name.removesuffix(".sums") for name in arrays if name.endswith(".sums")]
    layers = {name: Squares(arrays[f"{name}.sums"], arrays[f"{name}.tokens"][()]) for name in names}
    return Matrix(layers, **about)


@contextmanager
def open_work(
    model: ModelRef,
    calibration: Calibration | None,
    output: Path,
    max_memory_gib: float | None = None,
    dtype: Dtype = "auto",
) -> Iterator[Work]:
    """The shared work; its scratch folder goes once all formats are made.

    Models that are loaded meanwhile take no more memory than given, or than is comfortable.

    Raises:
        ArtifactError: another process works on the same model for the same output.
    """
    sources = (model.parent, *([calibration.source.parent] if calibration else []))
    key = digest_text(" ".join([dtype, *(source.identity for source in sources)]))[:12]
    scratch = output / f".shared-{key}"
    with _locked(scratch), offloading(scratch / "offloaded", max_memory_gib):
        is_done = False
        try:
            yield Work(model, calibration, scratch, dtype)
            is_done = True
        finally:
            # the next command resumes from what a stopped one leaves there
            if is_done or {path.name for path in scratch.iterdir()} <= {LOCK}:
                shutil.rmtree(scratch)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / LOCK).open("w")
    except OSError as problem:
        message = f"{folder.parent} cannot be written: {problem.strerror}"
        raise ArtifactError(message, "choose another --output") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{folder.parent} is being written by another medllm"
            raise ArtifactError(message, "wait for it, or choose another --output") from None
        yield
