"""Fine-tuning by medllm, by plain TRL and by a training guide's script: speed and held-out loss.

    python scripts/benchmarks/finetune.py --model REF --data DIR [--examples N] [--rounds N]

DIR is what `medllm prepare` wrote, such as PubMedQA. Each arm trains a LoRA adapter on the same
examples, once each, another seed in each round; with the same adapter, and with the same learning
rate, which falls in a line, as it does in TRL. The arms of a round are processes that take turns of
a second, so that all meet the same machine.

    medllm      the verb with its other defaults, in float32 as the next two
    trl         SFTTrainer with TRL's defaults on rows {prompt, completion} of messages
    guide       transformers' Trainer on Alpaca prompts padded to 2,048 tokens, batch 4 × 4, loss on
                every token with padding, as many guides have it; only its first round is run
    medllm-bf16 the verb with `dtype: bfloat16`, for processors that compute in it
    medllm-nf4  the verb with `quantization: nf4`
    guide-nf4   the guide on a base of 4 bits, with PEFT's `prepare_model_for_kbit_training`, which
                is how such a script stands; a CPU has neither its fp16 nor its paged optimizer

Useful tokens are those of the examples, without padding; seconds are those of the trainer's
`train()` alone. The held-out loss is over the tokens of the answers, without their end, each arm
with its own prompts and on the base that it trained on. Writes docs/benchmarks/finetune.json, after
each round anew.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

from medllm.data.example import Example, read_examples, to_json, write_jsonl

ARMS = ("medllm", "trl", "guide", "medllm-bf16", "medllm-nf4", "guide-nf4")
COMPARED = (
    ("medllm", "trl"),
    ("medllm", "guide"),
    ("medllm-bf16", "guide"),
    ("medllm-nf4", "guide-nf4"),
)
OPTIONS = {"bf16": {"dtype": "bfloat16"}, "nf4": {"quantization": "nf4"}}
"""By the ends of the arms' names."""
LEARNING_RATE = 1e-3
COURSE = {"lr_scheduler_type": "linear", "warmup_steps": 0}
"""TRL's default."""
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
GUIDE = {"length": 2048, "batch": 4, "accumulation": 4}
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)
Pairs = list[tuple[list[int], list[int]]]


def main() -> None:
    """Run the arms by turns, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    settings = {"learning_rate": LEARNING_RATE, **COURSE, **LORA, "examples": asked.examples}
    about = {"model": Path(asked.model).name, "settings": settings}
    with tempfile.TemporaryDirectory() as room:
        data = Path(room) / "data"
        copy_first(asked.data / "train.jsonl", data / "train.jsonl", asked.examples)
        copy_first(asked.data / "validation.jsonl", data / "held-out.jsonl", asked.held_out)
        runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for turn in range(asked.rounds):
            arms = [arm for arm in ARMS if not arm.startswith("guide") or turn == 0]
            for arm, figures in run_round(arms, asked.model, data, turn).items():
                runs[arm].append(figures)
                print(arm, figures, file=sys.stderr, flush=True)
            found = summarize(runs)
            measure.write("finetune", {**about, **found})
    print(json.dumps({name: found[name] for name in found if name != "runs"}, indent=1))


def copy_first(source: Path, target: Path, count: int) -> None:
    """The first examples of a file."""
    target.parent.mkdir(exist_ok=True)
    write_jsonl(target, map(to_json, itertools.islice(read_examples(source), count)))


def summarize(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The medians of each arm, and what medllm's are by the others'."""
    median = {
        arm: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for arm, found in runs.items()
    }
    speed = {arm: figures["useful_tokens_per_second"] for arm, figures in median.items()}
    times = {f"{ours} / {peer}": speed[ours] / speed[peer] for ours, peer in COMPARED}
    return {"median": median, "speed": times, "runs": runs}


def run_round(
    arms: Iterable[str], model: str, data: Path, seed: int
) -> dict[str, dict[str, float]]:
    """One run of each arm."""
    with tempfile.TemporaryDirectory() as folder:
        room, script = Path(folder), str(Path(__file__).resolve())
        place = str(Path(model).resolve()) if Path(model).exists() else model
        command = [script, "--one", place, str(data), str(seed)]
        found = measure.run_in_turns({arm: [*command, arm, str(room / arm)] for arm in arms}, room)
    return {arm: summarize_run(ran) for arm, ran in found.items()}


def summarize_run(ran: measure.Ran) -> dict[str, float]:
    """The figures of an arm."""
    seconds = ran.seconds(ran.figures.pop("training"))
    speed = ran.figures["useful_tokens"] / seconds
    return {"useful_tokens_per_second": speed, "seconds": seconds, **ran.figures}


@dataclass(frozen=True)
class Task:
    """What an arm is given."""

    ref: str
    data: Path
    room: Path
    seed: int

    @property
    def train(self) -> list[Example]:
        """The examples to train on."""
        return list(read_examples(self.data / "train.jsonl"))


def one(model: str, data: str, seed: str, arm: str, room: str) -> None:
    """Train one arm, score it on the held-out answers, write its figures."""
    task = Task(model, Path(data), Path(room), int(seed))
    span = time_training()
    who, _, numbers = arm.partition("-")
    train = {"medllm": train_medllm, "trl": train_trl, "guide": train_guide}[who]
    trained, tokens, pairs = train(task, **OPTIONS.get(numbers, {}))
    held_out = pairs(read_examples(task.data / "held-out.jsonl"))
    figures = {
        "training": span,
        "useful_tokens": tokens,
        "held_out_loss": mean_loss(trained, held_out),
    }
    (task.room / measure.FIGURES).write_text(json.dumps(figures), encoding="utf-8")


def time_training() -> list[float]:
    """When the `train()` of any trainer will have begun and ended."""
    from transformers import Trainer

    span: list[float] = []
    inner = Trainer.train

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = inner(*arguments, **named)
        span[:] = began, time.perf_counter()
        return result

    Trainer.train = timed
    return span


Trained = tuple[Any, int, Callable[[Iterable[Example]], Pairs]]
"""A model, the tokens that it was trained on, and what makes prompts and answers for it."""


def train_medllm(task: Task, dtype: Any = "float32", quantization: Any = None) -> Trained:
    """The verb, as a user calls it; without validation rows, as the others have none."""
    from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
    from medllm.finetune.train.base import load_base
    from medllm.finetune.verb import finetune
    from medllm.models.adapter import add_adapter
    from medllm.models.load import resolve_model

    training = TrainingSettings(num_train_epochs=1, learning_rate=LEARNING_RATE, **COURSE)
    config = FinetuneConfig(
        model=task.ref,
        data=task.data,
        lora=LoraSettings(**LORA),
        training=training,
        output=task.room / "adapter",
        seed=task.seed,
        dtype=dtype,
        quantization=quantization,
    )
    results = finetune(config).results
    base = load_base(config, resolve_model(task.ref), "cpu")
    trained = add_adapter(base, resolve_model(str(task.room / "adapter")))
    return trained, results["rows"]["tokens"], chat_pairs(task.ref)


def train_trl(task: Task) -> Trained:
    """TRL as its own documentation shows it."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        load(task.ref),
        SFTConfig(
            output_dir=str(task.room / "out"),
            use_cpu=True,
            bf16=False,
            learning_rate=LEARNING_RATE,
            seed=task.seed,
            num_train_epochs=1,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(conversations(task.train)),
        processing_class=tokenizer_of(task.ref),
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )
    tokens = sum(map(len, trainer.train_dataset["input_ids"]))
    trainer.train()
    return trainer.model, tokens, chat_pairs(task.ref)


def conversations(examples: Iterable[Example]) -> list[dict[str, Any]]:
    """Rows {prompt, completion} of messages, as TRL takes them."""
    return [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in example.prompt],
            "completion": [{"role": "assistant", "content": example.completion}],
        }
        for example in examples
    ]


def train_guide(task: Task, quantization: str | None = None) -> Trained:
    """The guide's script: everything padded to one length, and every token trained on."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import Trainer, TrainingArguments

    tokenizer = tokenizer_of(task.ref)
    tokenizer.pad_token = tokenizer.eos_token
    texts = [alpaca(example) + example.completion for example in task.train]
    rows = tokenizer(texts, truncation=True, max_length=GUIDE["length"], padding="max_length")
    rows["labels"] = [list(ids) for ids in rows["input_ids"]]
    arguments = TrainingArguments(
        output_dir=str(task.room / "out"),
        use_cpu=True,
        learning_rate=LEARNING_RATE,
        seed=task.seed,
        num_train_epochs=1,
        per_device_train_batch_size=GUIDE["batch"],
        gradient_accumulation_steps=GUIDE["accumulation"],
        max_grad_norm=0.3,
        save_strategy="no",
        report_to="none",
    )
    rounding = {"quantization_config": four_bits()} if quantization else {}
    base = prepare_model_for_kbit_training(load(task.ref, **rounding))
    model = get_peft_model(base, LoraConfig(**LORA, task_type="CAUSAL_LM"))
    trainer = Trainer(model, arguments, train_dataset=Dataset.from_dict(dict(rows)))
    tokens = sum(map(sum, rows["attention_mask"]))

    def pairs(examples: Iterable[Example]) -> Pairs:
        prompts = [(tokenizer(alpaca(each))["input_ids"], each.completion) for each in examples]
        return [(p, tokenizer(c, add_special_tokens=False)["input_ids"]) for p, c in prompts]

    trainer.train()
    return model, tokens, pairs


def alpaca(example: Example) -> str:
    """The guide's prompt."""
    return ALPACA.format("\n".join(message.content for message in example.prompt))


def chat_pairs(ref: str) -> Callable[[Iterable[Example]], Pairs]:
    """Prompts by the chat template, and answers without their end."""
    from medllm.models.chat.template import TokenizerTemplate

    template = TokenizerTemplate(tokenizer_of(ref))

    def pairs(examples: Iterable[Example]) -> Pairs:
        return [
            (
                template.encode(template.render(each.prompt), add_special_tokens=False),
                template.encode(each.completion, add_special_tokens=False),
            )
            for each in examples
        ]

    return pairs


def mean_loss(model: Any, pairs: Pairs) -> float:
    """The mean loss of the answers' tokens, in nats."""
    import torch

    model.eval()
    losses = []
    with torch.no_grad():
        for prompt, answer in pairs:
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
            answered = logits[len(prompt) - 1 : -1].float()
            losses += torch.nn.functional.cross_entropy(
                answered, torch.tensor(answer), reduction="none"
            ).tolist()
    return statistics.fmean(losses)


def load(ref: str, **options: Any) -> Any:
    """The model in float32."""
    from transformers import AutoModelForCausalLM

    from medllm.models.load import resolve_model

    location = resolve_model(ref).location
    return AutoModelForCausalLM.from_pretrained(location, dtype="float32", **options)


def four_bits() -> Any:
    """The guide's rounding of the base."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype="bfloat16",
    )


def tokenizer_of(ref: str) -> Any:
    """The tokenizer of a model."""
    from transformers import AutoTokenizer

    from medllm.models.load import resolve_model

    return AutoTokenizer.from_pretrained(resolve_model(ref).location)


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
