"""One training in several processes: the main one makes the artifact, the others compute along.

They meet in torch's process group, which the trainer's arguments open; so whatever is shared comes
after the main process has the folder for itself.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medllm.artifacts.job import (
    Job,
    Outcome,
    check_output,
    finished_manifest,
    produce,
    produce_as_main,
)
from medllm.artifacts.manifest import Manifest
from medllm.errors import ArtifactError, ConfigError
from medllm.finetune.config import FinetuneConfig
from medllm.models.hardware import pick_device
from medllm.ranks import MAIN, count_processes, is_main, local_rank

if TYPE_CHECKING:
    from trl import SFTTrainer

Found = TypeVar("Found")


def check_sharding(config: FinetuneConfig) -> None:
    """Raise ConfigError where the launcher asks for what cannot be trained so."""
    if config.quantization and is_fsdp():
        raise ConfigError(
            "finetune.quantization: FSDP does not shard a base of 4 bits here",
            "launch with accelerate/ddp, where each GPU holds the quantized base; or train without",
        )


def is_fsdp() -> bool:
    """Whether the launcher asks for FSDP, which takes the base from the CPU and shards it."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def is_split() -> bool:
    """Whether the launcher asks for a library that splits what trains over processes."""
    return is_fsdp() or os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def own_device() -> str:
    """The kind of device to compute on; of several GPUs this process takes its own."""
    import torch

    device = pick_device()
    if device == "cuda":
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    elif device == "cpu" and count_processes() > 1:
        # else accelerate says "cpu:1", where torch.load can put nothing
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", device)
    return device


def produce_together(job: Job, make: Callable[[Path], Outcome]) -> Manifest:
    """The manifest, as `produce` gives it, in each of the processes.

    Raises:
        ArtifactError: as `produce`; in another process also where the main one has ended.
    """
    if count_processes() == 1:
        return produce(job, make)
    from torch import distributed

    if is_main():
        manifest = produce_as_main(job, make)
    elif finished := finished_manifest(job):
        manifest = finished
    else:
        check_output(job)
        make(job.unfinished)
    if not distributed.is_initialized():  # it was up to date
        return manifest
    try:
        manifest = share(lambda: manifest)
    except RuntimeError as problem:
        message = f"the main process ended before {job.output} was whole"
        raise ArtifactError(message, "see what it says") from problem
    distributed.destroy_process_group()
    return manifest


def share(find: Callable[[], Found]) -> Found:
    """What the main process finds, in each process."""
    if count_processes() == 1:
        return find()
    from torch import distributed

    found: list[Any] = [find() if is_main() else None]
    distributed.broadcast_object_list(found, src=MAIN)
    shared: Found = found[0]
    return shared


def is_true_anywhere(fact: bool, device: Any) -> bool:
    """Whether something is true in one of the processes; asked in all of them at once."""
    if count_processes() == 1:
        return fact
    import torch
    from torch import distributed

    found = torch.tensor(int(fact), device=device)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return bool(found.item())


def is_sharded(trainer: "SFTTrainer") -> bool:
    """Whether each process holds a part of the weights alone."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def save_weights(trainer: "SFTTrainer", folder: Path) -> None:
    """Write what was trained, whole; called in all processes, as shards are gathered."""
    if not is_sharded(trainer):
        if is_main():
            trainer.model.save_pretrained(folder)
        return
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))
    if is_main():  # a pickle of the trainer's arguments, which nobody needs to load the weights
        (folder / "training_args.bin").unlink(missing_ok=True)
