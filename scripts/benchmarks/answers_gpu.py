"""Evaluate, generate and serve an 8B-shaped model on a CUDA GPU: tokens/s, beside transformers.

    python scripts/benchmarks/answers_gpu.py [--layers 32] [--folder DIR] [--smoke]

Random weights of Llama-3-8B's shape, in bfloat16. Scored are questions of about 500 tokens with
four choices each, as evaluate asks them; the tokens of a question count once. What the model
expects after each token of a document is what the quality report reads. Utilisation counts two
operations for each weight that multiplies and each token, over the bfloat16 rate of one large
product of matrices in the same process. One answer of 64 tokens is written by medllm's engine, by
transformers' own `generate`, and by the server; then eight together by the server. `--smoke` walks
the same way on any machine. Writes docs/benchmarks/answers-gpu.json (not with `--smoke`).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import measure
import random_model
from finetune_gpu import matmul_rate, multiplying
from quantize_gpu import fast_folder, gpu, say

from medllm.data.generators import radiology
from medllm.engines.base import GenerateRequest, Sampling, ScoreRequest, likelihoods
from medllm.models.hardware import peak_memory_gib, pick_device

CHOICES = ("yes", "no", "maybe", "the report does not say")
ANSWER, TOGETHER = 64, 8
"""Tokens of an answer, and how many are asked for at once."""


def main() -> None:
    """Measure each, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="keeps the model for a next run")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on any machine")
    asked = parser.parse_args()
    machine = gpu(asked.smoke)
    shape, layers = ("smoke", 2) if asked.smoke else ("8b", asked.layers)
    questions, documents = (4, 2) if asked.smoke else (asked.questions, asked.documents)
    device = "cpu" if asked.smoke else "cuda"
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
        room = asked.folder or Path(folder)
        model = random_model.build(room / f"model-{layers}", shape, layers, device)
        say(f"the model is written: {layers} layers in {room}")
        found = measure_all(model, questions, documents)
    result = {"gpu": machine, "shape": shape, "layers": layers, **found}
    print(json.dumps(result, indent=1))
    measure.write("answers-gpu", result, smoke=asked.smoke)


def measure_all(model: Path, questions: int, documents: int) -> dict[str, Any]:
    """Each figure of one loaded model; what cannot be measured says why."""
    from medllm.engines.open import open_model
    from medllm.models.load import resolve_model

    began = time.perf_counter()
    engine: Any = open_model(resolve_model(str(model)))
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - began}
    say(f"it is loaded after {found['load_seconds']:.1f} s")
    operations = 2 * multiplying(model) / matmul_rate()
    for name, work in (
        ("score", lambda: score(engine, questions)),
        ("expect", lambda: expect(engine, documents)),
        ("answer", lambda: answer(engine)),
        ("serve", lambda: serve(engine)),
    ):
        found[name] = work()
        rate = found[name].get("tokens_per_second")
        if rate and name in {"score", "expect"}:
            found[name]["utilisation"] = operations * rate
        say(f"{name}: {json.dumps(found[name])}")
    return {**found, "peak_memory_gib": peak_memory_gib(pick_device())}


def reports(tokenizer: Any, tokens: int, seed: str) -> list[int]:
    """The ids of generated reports, so many tokens."""
    draw, ids = Random(seed), list[int]()
    while len(ids) < tokens:
        ids += tokenizer(radiology.build_report(draw).text + "\n")["input_ids"]
    return ids[:tokens]


def score(engine: Any, questions: int) -> dict[str, float]:
    """The likelihood of four choices after each question, as evaluate asks."""
    requests, tokens = [], 0
    for number in range(questions):
        length = Random(f"length-{number}").randint(300, 700)
        context = reports(engine.tokenizer, length, f"question-{number}")
        tokens += length
        for choice in CHOICES:
            ids = engine.encode(f" {choice}", add_special_tokens=False)
            requests.append(ScoreRequest(tuple(context), tuple(ids)))
            tokens += len(ids)
    engine.score(requests[: len(CHOICES)])  # warms up
    seconds = timed(lambda: engine.score(requests))
    return {"questions_per_second": questions / seconds, "tokens_per_second": tokens / seconds}


def expect(engine: Any, documents: int) -> dict[str, float]:
    """What the model expects after each token of documents, as the quality report asks."""
    length = min(2048, engine.context_length)
    texts = [reports(engine.tokenizer, length, f"document-{n}") for n in range(documents)]

    def read(ids: list[int]) -> None:
        for block in engine.log_probs(ids):
            likelihoods(block, [0])  # a GPU has computed the block once a number of it is here

    read(texts[0])
    seconds = timed(lambda: [read(ids) for ids in texts])
    return {"tokens_per_second": documents * length / seconds}


def answer(engine: Any) -> dict[str, float]:
    """One answer, by the engine and by transformers' own `generate`."""
    import torch

    prompt = reports(engine.tokenizer, 200, "prompt")
    ids = torch.tensor([prompt], device=engine.model.device)
    request = GenerateRequest(tuple(prompt), Sampling(max_tokens=ANSWER))

    def bare() -> None:
        engine.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER,
            min_new_tokens=ANSWER,
        )

    for _ in range(2):  # the first warms up
        first, ours = stretches(engine.generate(request))
        theirs = ANSWER / timed(bare)
    return {
        "seconds_to_first_token": first,
        "tokens_per_second": ours,
        "bare_tokens_per_second": theirs,
    }


def stretches(pieces: Iterator[Any]) -> tuple[float, float]:
    """Seconds to the first token, and tokens a second, the reading of the prompt included."""
    began = time.perf_counter()
    ends = [time.perf_counter() for piece in pieces if piece.tokens]
    return ends[0] - began, len(ends) / (ends[-1] - began)


def serve(engine: Any) -> dict[str, Any]:
    """The same answer from the server, once, and several at once."""
    try:
        from medllm.serve.app import build_app
        from medllm.serve.callers.callers import Callers
        from medllm.serve.server import ask, running_server
    except ModuleNotFoundError as problem:  # the extra `serve`, or what it needs
        return {"not_measured": f"{problem.name} is not installed"}

    app = build_app(engine, model_id="random", callers=Callers(None), max_tokens=ANSWER)
    question = engine.tokenizer.decode(reports(engine.tokenizer, 200, "prompt"))
    with running_server(app) as url, ThreadPoolExecutor(TOGETHER) as callers:

        def one(_: int = 0) -> float:
            return timed(lambda: ask(url, None, question, ANSWER))

        one()
        alone = one()
        began = time.perf_counter()
        each = list(callers.map(one, range(TOGETHER)))
        together = time.perf_counter() - began
    return {
        "seconds": alone,
        "tokens_per_second": ANSWER / alone,
        "together": TOGETHER,
        "together_tokens_per_second": TOGETHER * ANSWER / together,
        "together_median_seconds": statistics.median(each),
    }


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
