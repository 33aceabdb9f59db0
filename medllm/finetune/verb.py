"""The finetune verb."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medllm import console
from medllm.artifacts.job import Job, Outcome
from medllm.artifacts.lineage import open_output
from medllm.artifacts.manifest import Counts, Manifest, Source
from medllm.data.registry.datasets import specs_of
from medllm.errors import ArtifactError, ConfigError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.report import LossCurves, write_report
from medllm.finetune.results import (
    check_ended_well,
    cost,
    evaluate,
    loss_before,
    save,
    summarize_training,
)
from medllm.finetune.rows.material import Inputs, Material
from medllm.finetune.rows.replay import open_replay
from medllm.finetune.search.study import check_can_search, search
from medllm.finetune.train.adapter import check_names
from medllm.finetune.train.base import weights_dtype
from medllm.finetune.train.distributed import check_sharding, own_device, produce_together
from medllm.finetune.train.moe import of_answers
from medllm.finetune.train.trainer import open_trainer, run
from medllm.measures.room import check_training
from medllm.models.chat.answer_end import answer_end
from medllm.models.gpu import describe_device
from medllm.models.hardware import peak_memory_gib
from medllm.models.image_files import digest_images, named_images
from medllm.models.load import ModelRef, is_quantized, resolve_model
from medllm.models.memory import within_memory
from medllm.models.weights import read_weights
from medllm.ranks import count_processes, is_main

if TYPE_CHECKING:
    from transformers import TrainerCallback


@within_memory(
    "finetune", "lower training.per_device_train_batch_size or max_length; or quantization: nf4"
)
def finetune(config: FinetuneConfig) -> Manifest:
    """An adapter (PEFT's files) or a whole model, its tokenizer and TensorBoard logs beside it.

    An interrupted run resumes from its newest whole checkpoint. Started by a launcher, each process
    computes a part, and the main one writes.

    Raises:
        ConfigError: nothing to train on is named, or an option the trainer does not know.
        ArtifactError: the model or the dataset is missing, altered or of another kind.
        DataError: the dataset to replay is missing, or its agreement was not named.
    """
    inputs = open_inputs(config)
    form = "lora" if config.lora else "safetensors"
    sources: list[Source] = [inputs.model, inputs.data, *filter(None, [inputs.replayed])]
    job = Job.of(config, config.makes, "finetune", form, *sources)
    if inputs.replayed:  # nothing else depends on the split
        job = job.deciding(split=config.split.model_dump(), datasets=specs_of([inputs.replayed]))
    if inputs.images:  # the rows hold their names alone
        job = job.deciding(images=digest_images(inputs.images))
    train = partial(_train, inputs)
    make = partial(search, config, train) if config.search else partial(train, config)
    return produce_together(job, make)


def check_ahead(config: FinetuneConfig) -> None:
    """Raise what can be known before the inputs are there: a recipe asks this before it starts."""
    check_can_search(config)
    open_replay(config)


def open_inputs(config: FinetuneConfig) -> Inputs:
    """What the training is made from, checked; raises as `finetune`."""
    if config.data is None:
        fix = "--data DIR, a folder that `medllm prepare` wrote"
        raise ConfigError("no training data are named", fix)
    check_sharding(config)
    data = open_output(config.data, "prepare", "train.jsonl", "training data")
    check_can_search(config, data.path)
    replayed = open_replay(config)
    model = resolve_model(config.model, kinds=("model", "quantized"))
    if is_quantized(model.location):  # what is trained on it could be merged into nothing
        fix = "name the model it was made from; quantization: nf4 trains on its 4 bits"
        raise ArtifactError(f"{model.ref} is quantized already", fix)
    read_weights(model.path)  # pickled, cut off or missing ones are known before anything slow
    if config.lora:
        check_names(config.lora, model.location)
    return Inputs(model, data, replayed, named_images(data.path))


def _train(
    inputs: Inputs,
    config: FinetuneConfig,
    folder: Path,
    callbacks: "Sequence[TrainerCallback]" = (),
) -> Outcome:
    """One training; `callbacks` are of a search, which says itself what came of it."""
    _check_memory(inputs.model, config)
    started = time.monotonic()
    device = own_device()
    material = Material.read(inputs, config, device)
    if material.recomputation:
        console.notice(f"finetune: {material.recomputation}")
    trainer = open_trainer(config, material, folder, device)
    labels = None
    if material.splits.validation:
        from medllm.finetune.train.label_accuracy import watch_labels

        labels = watch_labels(trainer, inputs.data.path, material.template)
    for callback in callbacks:
        trainer.add_callback(callback)
    losses, watch = run(trainer, config, folder)
    after = evaluate(trainer, config)
    known = summarize_training(trainer, losses, after)
    check_ended_well(trainer, known)
    save(trainer, material, folder)
    counts, held_out = material.splits.counts, material.splits.validation_counts
    results = {
        **known,
        "validation_label_accuracy": labels.measure() if labels else None,
        **cost(trainer, losses, watch, material.tokens),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gib": peak_memory_gib(device),
        "dtype": config.quantization or weights_dtype(config, device),
        "training_rows": len(material.splits.train),
        "attn_implementation": material.attention,
        "not_varlen_attn": material.lacks,
        "recomputation": asdict(material.recomputation) if material.recomputation else None,
        "answer_end": answer_end(material.template),
        "rows": asdict(counts),
        "validation_rows": asdict(held_out) if held_out else None,
        "replay": material.replay.results if material.replay else None,
    }
    history = [of_answers(trainer, log) for log in trainer.state.log_history]
    curves = LossCurves.of(history, loss_before(trainer))
    if is_main():
        write_report(curves, results, folder, config)
    if not callbacks:
        console.notice(console.wrapped(f"finetune: {curves.verdict}"))
    return Outcome(
        Counts(examples=counts.examples, rejected=counts.rejected), results, describe_device(device)
    )


def _check_memory(model: ModelRef, config: FinetuneConfig) -> None:
    """Raise SetupError where the base does not fit; several processes may share its weights."""
    if count_processes() == 1:
        form = config.quantization or weights_dtype(config, own_device())
        check_training(model, form, is_whole=config.lora is None)


def describe(manifest: Manifest) -> str:
    """The training in a line: its loss."""
    results = manifest.results
    before, after = results["validation_loss_before"], results["validation_loss"]
    told = f"loss {results['train_loss']:.3f}"
    if after is not None:
        told = f"validation loss {before:.3f} → {after:.3f}"
    if (accuracy := results.get("validation_label_accuracy")) is not None:
        told += f", {accuracy:.1%} of labels right"
    return f"{told} in {console.counted(results['steps'], 'step')}"
