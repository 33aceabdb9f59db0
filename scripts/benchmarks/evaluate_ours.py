"""What `evaluate.py` measures of medllm: scoring with a loaded model, prompts built within."""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from medllm import __version__
from medllm.data.example import Example
from medllm.engines.open import open_model
from medllm.engines.scoring.batches import Batches
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.evaluate.kinds import Asking
from medllm.models.load import resolve_model

MOST_TOKENS = 2048
LONGEST_ANSWER = 8
ROUNDS = 4
WARM = 16
"""Questions before the clock runs; the peer has had its batch sizes tried by then."""


def main() -> None:
    """Score a task several times; leave the time, and likelihoods by the digest of the prompt."""
    room, model, name, shots = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    engine: Any = open_model(resolve_model(model), dtype="float32")
    config = EvaluateConfig(data_dir=room / "data", num_fewshot=shots)
    task = Task(name.removesuffix("_5"), config)
    everything = task.items().examples
    items = [item for item in everything if fits(engine, task.shots.put(item, in_chat=False))]
    asking = Asking(config, in_chat=False, what=name, spec=task.spec)
    list(task.kind.score(engine, items[:WARM], asking))
    began = time.perf_counter()
    for _ in range(ROUNDS):
        engine.batches = Batches.on_processor(engine.model)  # nothing is known from before
        asked = [task.shots.put(item, in_chat=False) for item in items]
        records = [*task.kind.score(engine, asked, asking)]
    span = (began, time.perf_counter())
    prompts = [digest(item.prompt[0].content) for item in asked]
    versions = {"medllm": __version__, "torch": torch.__version__,
                "transformers": transformers.__version__}  # fmt: skip
    told = {
        "span": span,
        "rounds": ROUNDS,
        "too_long": len(everything) - len(items),
        "scores": dict(zip(prompts, (each["logprobs"] for each in records), strict=True)),
        "versions": versions,
    }
    Path("figures.json").write_text(json.dumps(told))


def fits(engine: Any, item: Example) -> bool:
    """Whether a prompt and an answer are no longer than both read."""
    ids = engine.encode(item.prompt[0].content, add_special_tokens=True)
    return len(ids) + LONGEST_ANSWER <= MOST_TOKENS


def digest(text: str) -> str:
    """A name for a prompt that is the same for both."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
