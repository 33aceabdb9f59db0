"""A profiling run: a few real steps on this machine, and what the whole training will take.

A small model is profiled as it is. Of a large one random weights with one and with three layers
take its place: what a step costs is linear in the layers.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.data.access import may_show
from medllm.data.example import Example, read_examples
from medllm.finetune.config import FinetuneConfig, Turns
from medllm.finetune.rows.build import RowCounts, Splits, lengths_of
from medllm.finetune.rows.material import Inputs, Material
from medllm.finetune.train.distributed import own_device
from medllm.finetune.train.trainer import open_trainer
from medllm.models.chat.template import TokenizerTemplate, render_example
from medllm.models.chat.turns import Answers, find_answers
from medllm.models.hardware import count_parameters, peak_memory_gib
from medllm.models.load import ModelRef, auto_class, read_config, save_tokenizer, text_config_of
from medllm.places import passing_folder

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTTrainer

SMALL = 300e6
"""Parameters of a model that is profiled whole."""
DEPTHS = (1, 3)
STEPS = 5
"""The first warms up; the others have batches of all lengths."""


@dataclass(frozen=True)
class Costs:
    """What a training costs at some depth of the model; all of it is linear in the layers."""

    parameters: float
    trainable: float
    memory_gib: float
    seconds_a_token: float
    """Of a training step, padding counted."""
    evaluation_seconds_a_token: float

    def at(self, layers: int, deeper: "Costs") -> "Costs":
        """At so many layers, from those at one depth and at another."""
        steps = (layers - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])
        here, there = vars(self), vars(deeper)
        return Costs(**{name: here[name] + steps * (there[name] - here[name]) for name in here})


@dataclass(frozen=True)
class Forecast:
    """What a training will be."""

    counts: RowCounts
    steps: int
    seconds: float
    """Of training and evaluations, without loading."""
    costs: Costs
    layers: str
    """What was profiled."""
    device: str

    def lines(self, price_per_hour: float | None) -> list[str]:
        """For people."""
        counts, costs = self.counts, self.costs
        each, trained = counts.tokens / counts.examples, counts.trained_tokens / counts.examples
        examples = console.counted(counts.examples, "example")
        answers = console.counted(counts.answers, "answer")
        left_out = sum(counts.rejected.values())
        cost = self.seconds / 3600 * (price_per_hour or 0)
        return [
            f"{examples} of {each:,.0f} tokens on average, {trained:,.0f} of "
            f"them in {answers} that are trained on; {counts.truncated:,} cut, "
            f"{left_out:,} left out as too long; {console.counted(self.steps, 'step')}",
            f"{costs.trainable / 1e6:,.2f} of {costs.parameters / 1e6:,.1f} million parameters are "
            "trained",
            f"about {console.lasting(self.seconds)} with evaluations, and "
            f"{costs.memory_gib:.1f} GiB of {self.device} memory, by a profiling run of {STEPS} "
            f"steps with {self.layers}",
            *([f"which costs about {cost:,.2f} at {price_per_hour} an hour"] if cost else []),
        ]


def render_forecast(config: FinetuneConfig, inputs: Inputs) -> list[str]:
    """Lines: the forecast, and the first example, with what is trained on marked; open data alone.

    Raises:
        MedllmError: whatever would stop the training before it begins.
    """
    device = own_device()
    material = Material.read(inputs, config, device)
    lines = profile(config, material, device).lines(config.price_per_hour)
    lines += [str(material.recomputation)] if material.recomputation else []
    if not may_show(inputs.data.data_terms):
        return [*lines, "the first example is not shown: its data are not open"]
    first = next(read_examples(inputs.data.path / "train.jsonl"))
    shown = show_trained(material.template, first, config.training.train_on_turns)
    return [*lines, "the first example; trained on is what stands in ⟦⟧:", *shown.splitlines()]


def show_trained(template: TokenizerTemplate, example: Example, turns: Turns) -> str:
    """The example as it is rendered, what is trained on in ⟦⟧."""
    rendered = render_example(template, example)
    found = find_answers(template, example, rendered) if turns == "all" else Answers()
    parts, at = [], 0
    for begin, end in found.spans:
        parts += [rendered.prompt[at:begin], f"⟦{rendered.prompt[begin:end]}⟧"]
        at = end
    parts += [rendered.prompt[at:], f"⟦{rendered.completion}⟧"]
    return "".join(map(template.special_tokens.unmark, parts))


def profile(config: FinetuneConfig, material: Material, device: str) -> Forecast:
    """Train a few steps, and estimate from them."""
    console.notice(f"finetune: profiling {STEPS} steps of training for the estimate; none is kept")
    run = ProfilingRun(config, material, device)
    model, splits = material.inputs.model, material.splits
    layers = text_config_of(read_config(model.path)).get("num_hidden_layers", 0)
    # gigabytes, perhaps: not on the system's small disk
    with passing_folder(_existing(config.output)) as room:
        if count_parameters(model.path) <= SMALL or layers <= DEPTHS[1]:
            said, costs = "the model", run.costs(model, room)
        else:
            said = f"{DEPTHS[0]} and {DEPTHS[1]} of {layers} layers of random weights"
            cut = (_cut(model, depth, room) for depth in DEPTHS)
            shallow, deep = (run.costs(each, room) for each in cut)
            costs = shallow.at(layers, deep)
    steps, passes = _steps(config, splits)
    batch = config.training.per_device_train_batch_size
    seconds = costs.seconds_a_token * passes * _padded(splits.train, batch)
    if splits.validation:
        rounds = 1 + math.ceil(steps / _evaluated_every(config, steps))
        tokens = rounds * _padded(splits.validation, batch)
        seconds += tokens * costs.evaluation_seconds_a_token
    return Forecast(splits.counts, steps, seconds, costs, said, device)


def _cut(model: ModelRef, depth: int, room: Path) -> ModelRef:
    """The model with so many layers, of random weights in the number format of its files."""
    import torch
    from transformers import AutoConfig

    config = copy.deepcopy(read_config(model.path))
    text = text_config_of(config)
    text["num_hidden_layers"] = depth
    if "layer_types" in text:
        text["layer_types"] = text["layer_types"][-depth:]
    named = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or "float32"
    folder = room / f"{depth}-layers"
    with console.quiet(), torch.device("cpu"):
        random = auto_class(model.location).from_config(
            AutoConfig.for_model(**config), dtype=getattr(torch, named)
        )
        random.save_pretrained(folder)
    save_tokenizer(model, folder)
    return replace(model, ref=str(folder), path=folder)


@dataclass(frozen=True)
class ProfilingRun:
    """A training to try a few steps of."""

    config: FinetuneConfig
    material: Material
    device: str

    def costs(self, model: ModelRef, room: Path) -> Costs:
        """What a few steps and an evaluation of this model cost."""
        import torch

        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        batches, trainer = self._prepare(model, room)
        ends = _time_steps(trainer)
        with console.quiet():
            trainer.train()
            began = time.perf_counter()
            trainer.evaluate(trainer.train_dataset)
            evaluated = time.perf_counter() - began
        return Costs(
            count_parameters(model.path),
            sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            peak_memory_gib(self.device),
            (ends[-1] - ends[0]) / sum(map(_area, batches[1:])),
            evaluated / sum(map(_area, batches)),
        )

    def _prepare(self, model: ModelRef, room: Path) -> "tuple[list[list[int]], SFTTrainer]":
        """The lengths of the rows in each batch, and a trainer that meets them in this order."""
        config, rows = self._short(), self.material.splits.train
        chosen = _choose(rows, config.training.per_device_train_batch_size)
        few = rows.select([n for batch in chosen for n in batch])
        material = replace(
            self.material,
            inputs=replace(self.material.inputs, model=model),
            splits=replace(self.material.splits, train=few, validation=None),
        )
        lengths = lengths_of(few)
        size = len(chosen[0])
        batches = [lengths[n : n + size] for n in range(0, len(lengths), size)]
        return batches, open_trainer(config, material, room, self.device)

    def _short(self) -> FinetuneConfig:
        """One pass in the order of the rows, that leaves nothing behind."""
        still = {"train_sampling_strategy": "sequential", "save_strategy": "no"}
        training = self.config.training.model_copy(
            update={
                "num_train_epochs": 1.0,
                "max_steps": -1,
                "gradient_accumulation_steps": 1,
                "report_to": (),
                "extra": {**self.config.training.extra, **still},
            }
        )
        return self.config.model_copy(update={"training": training})


def _time_steps(trainer: Any) -> list[float]:
    """The times at which steps will have ended."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    return ends


def _choose(rows: "Dataset", size: int) -> list[list[int]]:
    """The numbers of the rows of a few batches, from the shortest to the longest rows."""
    by_length = sorted(range(len(rows)), key=lengths_of(rows).__getitem__)
    shortest = len(rows) % size if len(rows) > size else 0  # left out, so that batches are full
    batches = [by_length[n : n + size] for n in range(shortest, len(by_length), size)]
    places = [(len(batches) - 1) * n // max(STEPS - 2, 1) for n in range(STEPS - 1)]
    return [batches[places[-1]], *(batches[place] for place in places)]


def _padded(rows: "Dataset", size: int) -> int:
    """The tokens of rows grouped by length, as the trainer does it, padding too."""
    lengths = sorted(lengths_of(rows))
    return sum(_area(lengths[n : n + size]) for n in range(0, len(lengths), size))


def _area(lengths: Sequence[int]) -> int:
    """The tokens of a batch, padding too."""
    return max(lengths) * len(lengths)


def _steps(config: FinetuneConfig, splits: Splits) -> tuple[int, float]:
    """The optimizer steps of a training, and its passes over the rows."""
    training = config.training
    batches = math.ceil(len(splits.train) / training.per_device_train_batch_size)
    a_pass = math.ceil(batches / training.gradient_accumulation_steps)
    if training.max_steps > 0:
        return training.max_steps, training.max_steps / a_pass
    return math.ceil(a_pass * training.num_train_epochs), training.num_train_epochs


def _evaluated_every(config: FinetuneConfig, steps: int) -> float:
    every = config.training.eval_steps
    return every if every >= 1 else math.ceil(steps * every)


def _existing(output: Path | None) -> Path:
    """The innermost folder around an output that is there already, else the working folder."""
    around = output.absolute().parents if output else [Path.cwd()]
    return next(folder for folder in around if folder.is_dir())
