"""Checkpoints of a training: the newest that is whole; what is broken is said and removed."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from medllm import console
from medllm.errors import ArtifactError
from medllm.models.adapter_tensors import WEIGHTS as ADAPTER
from medllm.models.adapter_tensors import find_difference
from medllm.models.weights import read_header
from medllm.ranks import count_processes

STATE = "trainer_state.json"
"""What the trainer writes last into a checkpoint."""
WEIGHTS = ("*.safetensors", "pytorch_model_fsdp*", "global_step*")
PICKLES = ("adapter_model.bin", "pytorch_model.bin")
OPTIMIZERS = ("optimizer*", "global_step*")
"""What the trainer, FSDP and DeepSpeed call them."""


def newest_checkpoint(folder: Path, resume: bool, tuned: Any = None) -> str | None:
    """The newest whole checkpoint; None where there is none or a fresh start is asked for.

    Those of an adapter must hold the tensors of `tuned`, the model with the adapter.
    """
    home = folder / "checkpoints"
    if not resume:
        shutil.rmtree(home, ignore_errors=True)
    checkpoints = sorted(home.glob("checkpoint-*"), key=_step)
    whole = [checkpoint for checkpoint in checkpoints if not _drop_damaged(checkpoint, tuned)]
    if not whole:
        if checkpoints:
            console.notice("finetune: no whole checkpoint is left: starting from the beginning")
        return None
    newest = whole[-1]
    console.notice(f"finetune: resuming from {newest.name}")
    _announce_differences(newest)
    return str(newest)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _drop_damaged(checkpoint: Path, tuned: Any) -> bool:
    """Whether it was damaged, and is no longer there: nothing can be made of it."""
    problem = find_damage(checkpoint, tuned)
    if problem:
        console.notice(f"finetune: {checkpoint.name} is not whole, so it is removed: {problem}")
        shutil.rmtree(checkpoint)
    return problem is not None


def find_damage(checkpoint: Path, tuned: Any = None) -> str | None:
    """What is missing, cut off or broken in a checkpoint.

    Pickles (`optimizer.pt`, `rng_state.pth` …) are only looked at as the archives that they are;
    the trainer opens them with torch's `weights_only`, which runs no code.
    """
    try:
        _read_state(checkpoint)
        for path in checkpoint.glob("*.safetensors"):
            read_header(path)
    except ArtifactError as problem:
        return problem.message
    for path in (*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")):
        if not zipfile.is_zipfile(path):  # the directory of an archive is at its end
            return f"{path} is cut off or broken"
    for what, patterns in (("weights", WEIGHTS), ("state of the optimizer", OPTIMIZERS)):
        if not any(any(checkpoint.glob(pattern)) for pattern in patterns):
            return f"it holds no {what}"
    if pickle := next((name for name in PICKLES if (checkpoint / name).exists()), None):
        return f"{pickle} is a pickle, which could run code"
    if not hasattr(tuned, "peft_config"):
        return None
    if not (checkpoint / ADAPTER).is_file():
        return f"it holds no {ADAPTER}"
    difference = find_difference(checkpoint, tuned)
    return difference and f"{ADAPTER} {difference}"


def _read_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state.

    Raises:
        ArtifactError: there is none, or it is broken.
    """
    path, fix = checkpoint / STATE, "resume from an older checkpoint"
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: the checkpoint was not finished", fix)
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ArtifactError(f"{path} is cut off or broken", fix) from problem
    if not isinstance(state, dict) or "global_step" not in state:
        raise ArtifactError(f"{path} is no state of a trainer", fix)
    return state


def _announce_differences(checkpoint: Path) -> None:
    """Say where a resumed training cannot be the same as the one that was ended."""
    best = _read_state(checkpoint).get("best_model_checkpoint")
    if best and not Path(best).is_dir():
        name = Path(best).name
        console.notice(f"finetune: {name} held the best weights so far, and they are lost")
    writers = max(1, len(list(checkpoint.glob("rng_state_*.pth"))))
    if writers != count_processes():
        console.notice(
            f"finetune: {checkpoint.name} was written by {writers} processes, and there are "
            f"{count_processes()} now: rows and random numbers come in another order"
        )
