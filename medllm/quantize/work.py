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
from medllm.artifacts.unfinished import ELSEWHERE, LOCK, leaving_no_empty
from medllm.errors import ArtifactError
from medllm.models.hardware import Dtype, pick_device
from medllm.models.load import ModelRef
from medllm.models.offload import offloading
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import QuantizeConfig
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
    recipe: str | None = None
    """The name of the recipe that quantizes it."""

    @property
    def title(self) -> str:
        """What the model is called in its GGUF files."""
        return title_of(self.model, self.recipe)

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
            files.convert_to_f16(self.model.path, target, title=self.title)
        return target


def title_of(model: ModelRef, recipe: str | None) -> str:
    """The name of the recipe that made a model, else of the one that quantizes it, and its base.

    "radiology (gemma-3-4b-it fine-tuned)"; without a recipe what stands in brackets.
    """
    manifest = model.manifest
    made_by = manifest.config.get("recipe") if manifest else None
    what = Path(model.base.id).name + (" fine-tuned" if manifest else "")
    recipe = made_by or recipe
    return f"{recipe} ({what})" if recipe else what


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
    model: ModelRef, calibration: Calibration | None, config: QuantizeConfig
) -> Iterator[Work]:
    """The shared work; its scratch folder goes once all formats are made.

    Models that are loaded meanwhile take no more memory than given, or than is comfortable.

    Raises:
        ArtifactError: another process works on the same model for the same output.
    """
    sources = (model.parent, *([calibration.source.parent] if calibration else []))
    named = title_of(model, config.recipe)
    deciding = [config.dtype, named, *(source.identity for source in sources)]
    assert config.output is not None
    scratch = config.output / f".shared-{digest_text(' '.join(deciding))[:12]}"
    with _locked(scratch), offloading(scratch / "offloaded", config.max_memory_gib):
        is_done = False
        try:
            yield Work(model, calibration, scratch, config.dtype, config.recipe)
            is_done = True
        finally:
            # the next command resumes from what a stopped one leaves there
            if is_done or {path.name for path in scratch.iterdir()} <= {LOCK}:
                shutil.rmtree(scratch)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with leaving_no_empty(folder.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (folder / LOCK).open("w")
        except OSError as problem:
            message = f"{folder.parent} cannot be written: {problem.strerror}"
            raise ArtifactError(message, ELSEWHERE) from problem
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"{folder.parent} is being written by another medllm"
                raise ArtifactError(message, f"wait for it, or {ELSEWHERE}") from None
            yield
