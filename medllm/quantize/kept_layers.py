"""GPTQ that goes on after a kill: gptqmodel keeps its state now and then, in a folder of ours."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.errors import SetupError

KEPT_BYTES = 2**28
"""A state holds what the next layer is given, for all tokens: the larger it is, the rarer."""

KEPT_STATES = 4
"""In a run: keeping one costs as much as a good part of a small layer."""


def quantize_kept(loaded: Any, rows: Sequence[dict[str, Any]], kept: Path, **options: Any) -> None:
    """`loaded.quantize(rows, **options)`; where gptqmodel can, after the last layer kept.

    The weights are those of a run that was not killed, and so is their order in the file.

    Raises:
        SetupError: what was kept is unusable; it is gone then.
    """
    from gptqmodel.looper.checkpoint import CheckpointStopped
    from gptqmodel.looper.checkpoint_store import CheckpointConfig, CheckpointError
    from gptqmodel.looper.gptq_checkpoint import validate_checkpoint_support

    try:
        validate_checkpoint_support(loaded)
    except NotImplementedError:  # it knows the state of few architectures, and of plain settings
        loaded.quantize(rows, **options)
        return
    if (kept / "CURRENT").is_file():
        console.notice("quantize: GPTQ goes on with the layers that an earlier run has kept")
    checkpoint = CheckpointConfig(path=kept, interval=f"layer:{_interval(loaded, rows)}")
    try:
        loaded.quantize(rows, checkpoint=checkpoint, **options)
    except CheckpointStopped as stopped:  # it takes Ctrl-C, and ends once the layer is kept
        raise KeyboardInterrupt from stopped
    except CheckpointError as problem:
        shutil.rmtree(kept)
        message = f"the layers that an earlier run has kept cannot be used: {problem}"
        raise SetupError(message, "run the same command again: it starts anew") from problem
    _sort_buffers(loaded.model)


def _interval(loaded: Any, rows: Sequence[dict[str, Any]]) -> int:
    """After how many layers a state is kept."""
    config = loaded.model.config.get_text_config()
    state_bytes = 2 * config.hidden_size * sum(len(row["input_ids"]) for row in rows)
    return int(max(config.num_hidden_layers // KEPT_STATES, 1 + state_bytes // KEPT_BYTES))


def _sort_buffers(model: Any) -> None:
    """One order of the tensors in the file: kept layers are put back in another."""
    for module in model.modules():
        if "qweight" in module._buffers:
            module._buffers = dict(sorted(module._buffers.items()))
