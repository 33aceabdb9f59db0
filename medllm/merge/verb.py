"""The merge verb."""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Manifest
from medllm.errors import ArtifactError, ConfigError
from medllm.merge.adapter import read_changes, unusual
from medllm.merge.check import Merged, check_merge
from medllm.merge.config import MergeConfig
from medllm.merge.fold import Fold, misfit, open_base
from medllm.merge.nf4 import nf4_rounding
from medllm.models.adapter import (
    adapter_config,
    base_of,
    check_weights,
    load_adapter,
    with_tokenizer,
)
from medllm.models.adapter_tensors import check_tensors, describe_on_paper
from medllm.models.chat.answer_end import ensure_end
from medllm.models.foreign import check_files_finite, first_line
from medllm.models.gpu import describe_device
from medllm.models.hardware import pick_device
from medllm.models.load import GENERATION, ModelRef, is_quantized, resolve_model, save_tokenizer
from medllm.models.memory import is_out_of_memory, within_memory
from medllm.models.weights import read_weights, stored_dtype


@within_memory("merge", "free memory; or leave the check out, --set merge.verify=false")
def merge(config: MergeConfig) -> Manifest:
    """A model that plain transformers loads, checked against base + adapter and against the base.

    Raises:
        ConfigError: no adapter is named.
        ArtifactError: the adapter belongs to another base, or the merged model computes another
            thing than it should.
    """
    if config.adapter is None:
        fix = "--adapter DIR, a folder that `medllm finetune` wrote"
        raise ConfigError("no adapter is named", fix)
    adapter = resolve_model(str(config.adapter), role="adapter", kinds=("adapter",))
    base = base_of(adapter, config.model)
    if is_quantized(base.location):
        fix = "name the model that it was made from with --model, and add --set merge.onto=nf4"
        raise ArtifactError(f"{base.location} is quantized; nothing can be folded into it", fix)
    check_weights(adapter)
    check_files_finite(base.path)
    job = Job.of(config, "model", "merge", "safetensors", base, adapter)
    return produce(job, partial(_merge, config, base, adapter))


def _merge(config: MergeConfig, base: ModelRef, adapter: ModelRef, folder: Path) -> Outcome:
    began = time.monotonic()
    merged = _fold(config, base, adapter, folder)
    save_tokenizer(with_tokenizer(adapter, base), folder)
    if (adapter.path / GENERATION).is_file():
        shutil.copyfile(adapter.path / GENERATION, folder / GENERATION)
    end = ensure_end(folder)
    results: dict[str, Any] = {"dtype": merged.dtype, "onto": config.onto, "answer_end": end}
    results |= {"verified": config.verify, "fold_seconds": round(time.monotonic() - began, 2)}
    if not config.verify:
        console.notice("merge: the merged model is not verified, as asked")
        return Outcome(results=results)
    results |= check_merge(merged, base, adapter, config.max_difference)
    return Outcome(results=results, device=describe_device(pick_device()))


def _fold(config: MergeConfig, base: ModelRef, adapter: ModelRef, folder: Path) -> Merged:
    """Write the merged weights."""
    settings = adapter_config(adapter)
    reason = unusual(settings, adapter.path)
    if reason is None:
        changes = read_changes(settings, adapter.path)
        opened = open_base(base, changes)
        missing = misfit(opened, changes)
        if missing is None:
            described = describe_on_paper(base.location, adapter.path, settings)
            check_tensors(adapter.path, described)
            rounding = nf4_rounding(base.path) if config.onto == "nf4" else {}
            Fold(opened, changes, config.dtype, rounding).write(folder)
            dtype = opened.dtype if config.dtype == "auto" else config.dtype
            return Merged(str(folder), dtype, rounding)
        reason = f"{missing} is no tensor of its own in {base.location}"
    if config.onto == "nf4":
        message = f"{adapter.location} cannot be folded onto NF4: {reason}"
        raise ArtifactError(message, "merge it onto the base")
    return _fold_through_peft(config, base, adapter, folder, reason)


def _fold_through_peft(
    config: MergeConfig, base: ModelRef, adapter: ModelRef, folder: Path, reason: str
) -> Merged:
    """What the fold does not know, PEFT does, with the whole model in memory."""
    console.notice(f"merge: through PEFT, with the whole model in memory: {reason}")
    import torch

    dtype = (
        config.dtype if config.dtype != "auto" else stored_dtype(read_weights(base.path).values())
    )
    tuned = load_adapter(adapter, base, dtype="float32", device="cpu")
    try:
        with console.quiet():
            tuned.merge_and_unload().to(getattr(torch, dtype)).save_pretrained(folder)
    except (AttributeError, RuntimeError) as problem:
        if is_out_of_memory(problem) or "merge" not in str(problem):
            raise
        message = f"{adapter.location}: PEFT cannot merge it: {first_line(problem):.200}"
        fix = "evaluate, generate and serve take an adapter as it is"
        raise ArtifactError(message, fix) from problem
    return Merged(str(folder), dtype)


def describe(manifest: Manifest) -> str:
    """The merged model in a line: how near it is to base + adapter."""
    if not manifest.results["verified"]:
        return "not verified"
    return f"logits within {manifest.results['max_difference']:.1e} of base + adapter"
