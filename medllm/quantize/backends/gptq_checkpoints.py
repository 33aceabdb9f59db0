"""GPTQ that resumes after a kill: gptqmodel keeps its state now and then, in a folder of ours."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.errors import SetupError
from medllm.models.hardware import pick_device

BYTES_PER_SECOND = 1e8
"""At which a state is hashed and written, at the least."""
SHARE = 0.03
"""Of the time, what keeping states may take."""
PATIENCE_SECONDS = 300
"""After which layers are kept on a processor."""


class KeptUnusable(Exception):
    """The layers that an earlier run has kept do not fit this run; they are gone then."""


def quantize_kept(
    loaded: Any,
    rows: Sequence[dict[str, Any]],
    kept: Path,
    every_seconds: float | None,
    **options: Any,
) -> None:
    """`loaded.quantize(rows, **options)`; where gptqmodel can, after the last layer kept.

    Where nobody says how often, a GPU keeps none: gptqmodel digests the whole base ahead, copies
    what the first layer is given, and writes the whole result once more at the end, which counts
    where quantizing takes minutes. The weights are those of a run that was not killed, and so is
    their order in the file.

    Raises:
        KeptUnusable: what was kept does not fit; the model has to be loaded anew.
        SetupError: a state cannot be written.
    """
    from gptqmodel.looper.checkpoint import CheckpointStopped
    from gptqmodel.looper.checkpoint_store import CheckpointError
    from gptqmodel.looper.gptq_checkpoint import validate_checkpoint_support

    try:
        validate_checkpoint_support(loaded)
    except NotImplementedError:  # it knows the state of few architectures, and of plain settings
        loaded.quantize(rows, **options)
        return
    is_kept = (kept / "CURRENT").is_file()
    if is_kept:
        console.notice("quantize: GPTQ resumes after the layers that an earlier run has finished")
    elif every_seconds is None and pick_device() == "cuda":
        loaded.quantize(rows, **options)
        return
    patience = PATIENCE_SECONDS if every_seconds is None else every_seconds
    checkpoint = _timed(kept, max(patience, _state_seconds(loaded, rows) / SHARE))
    try:
        loaded.quantize(rows, checkpoint=checkpoint, **options)
    except CheckpointStopped as stopped:  # it takes Ctrl-C, and ends once the layer is kept
        raise KeyboardInterrupt from stopped
    except CheckpointError as problem:
        shutil.rmtree(kept, ignore_errors=True)
        if is_kept:
            raise KeptUnusable(str(problem)) from problem
        message = f"GPTQ cannot keep the layers that it has finished: {problem}"
        raise SetupError(message, "set keep_seconds to more than the run takes") from problem
    _sort_buffers(loaded.model)


def _timed(kept: Path, every_seconds: float) -> Any:
    """Settings by which a state is kept after some time, not after some layers."""
    from gptqmodel.looper.checkpoint_store import CheckpointConfig

    class Timed(CheckpointConfig):  # type: ignore[misc]
        @property
        def interval_layers(self) -> int:
            """A layer if it is time, else more than any model has; asked after each layer."""
            if time.monotonic() - clock["kept"] < every_seconds:
                return int(1e9)
            clock["kept"] = time.monotonic()
            return 1

    clock = {"kept": time.monotonic()}
    return Timed(path=kept)


def _state_seconds(loaded: Any, rows: Sequence[dict[str, Any]]) -> float:
    """What keeping a state takes: it holds what the next layer is given, for all tokens."""
    width = loaded.model.config.get_text_config().hidden_size
    tokens = sum(len(row["input_ids"]) for row in rows)
    return float(2 * width * tokens / BYTES_PER_SECOND)


def _sort_buffers(model: Any) -> None:
    """One order of the tensors in the file: kept layers are put back in another."""
    for module in model.modules():
        if "qweight" in module._buffers:
            module._buffers = dict(sorted(module._buffers.items()))
