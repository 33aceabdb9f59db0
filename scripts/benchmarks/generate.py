"""Greedy answers written together, eight at a time, beside one by one, on the processor.

    python scripts/benchmarks/generate.py --model DIR [--data FILE] [--answers N] [--smoke]

The same prompts are answered by medllm one by one and in batches, and by transformers' own
`generate` in both ways (prompts padded on the left), in turns of a batch each, so that all meet the
same machine however its speed changes. A prompt is a question of `--data`, a JSONL file (default:
the sample questions of this project, each asked in several wordings). All compute in float32 on two
threads; what is loaded and read before does not count. Answers end where the model ends them, or at
`--tokens`. Written is docs/benchmarks/generate.json: tokens of answers a second, and how many
answers written together differ from those written alone (every one of them by its place). `--smoke`
walks the same way with the built-in tiny model, and writes nothing.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measure

THREADS = 2
BATCH = 8
SAMPLE = Path(__file__).parents[2] / "data" / "sample_qa.jsonl"
WORDINGS = ("{}", "Answer in one sentence. {}", "{} Answer for a nurse on a busy ward.",
            "A colleague asks: {}", "{} Say what is not known, too.")  # fmt: skip

Ids = list[int]
Arm = Callable[[Sequence[Ids]], list[Ids]]


def main() -> None:
    """Let the arms take turns, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder; not with --smoke")
    parser.add_argument("--data", type=Path, default=SAMPLE)
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--smoke", action="store_true", help="a tiny model and few answers")
    asked = parser.parse_args()
    if asked.smoke:
        asked.model, asked.answers, asked.tokens = "medllm/tiny", 16, 8
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    load = os.getloadavg()[0]
    engine = open_engine(asked.model)
    prompts = read_prompts(engine, asked.data, asked.answers)
    result = compare(arms(engine, asked.tokens), prompts)
    about = {"model": Path(asked.model).name, "dtype": "float32", "threads": THREADS}
    about |= {"batch_size": BATCH, "answers": len(prompts), "max_tokens": asked.tokens}
    about |= {"prompt_tokens": sum(map(len, prompts)) / len(prompts)}
    about |= {"load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
    measure.write("generate", {**about, **result}, smoke=asked.smoke)
    print(json.dumps(result, indent=1))


def open_engine(model: str) -> Any:
    """The engine, on the processor."""
    import torch

    from medllm.engines.open import open_model
    from medllm.models.load import resolve_model

    torch.set_num_threads(THREADS)
    engine = open_model(resolve_model(model), dtype="float32")
    engine.batch_size = BATCH  # type: ignore[attr-defined]
    return engine


def read_prompts(engine: Any, data: Path, count: int) -> list[Ids]:
    """The token ids of so many prompts."""
    from medllm.data.example import Message, read_jsonl
    from medllm.engines.prompts import ask_messages
    from medllm.engines.sampling import Sampling

    questions = [str(row.get("question") or row["prompt"]) for row in read_jsonl(data)]
    texts = [wording.format(text) for wording in WORDINGS for text in questions][:count]
    requests = (ask_messages(engine, (Message("user", text),), Sampling()) for text in texts)
    return [list(request.prompt) for request in requests]


def arms(engine: Any, tokens: int) -> dict[str, Arm]:
    """Ways to write the answers to a batch; each gives their token ids, without the end."""
    import torch

    from medllm.engines.sampling import Sampling
    from medllm.engines.writing.alone import NO_TOKEN, write_tokens
    from medllm.engines.writing.rows import Row

    sampling, ends = Sampling(max_tokens=tokens), set(engine._ends)

    def without_end(ids: Sequence[int]) -> Ids:
        return ids[: next((at for at, token in enumerate(ids) if token in ends), len(ids))]

    def alone(prompts: Sequence[Ids]) -> list[Ids]:
        told = (write_tokens(engine.model, prompt, sampling, tokens) for prompt in prompts)
        return [without_end([t for t, _ in each if t != NO_TOKEN]) for each in told]

    def together(prompts: Sequence[Ids]) -> list[Ids]:
        rows = [Row(place, prompt, sampling, tokens) for place, prompt in enumerate(prompts)]
        assert engine._together.is_able(prompts[0])
        for _ in engine._together.write(rows):
            pass
        return [row.written for row in rows]

    def padded(prompts: Sequence[Ids]) -> list[Ids]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(each)) + each for each in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        made = engine.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False
        )
        return [without_end(row) for row in made[:, longest:].tolist()]

    def one_by_one(prompts: Sequence[Ids]) -> list[Ids]:
        return [padded([prompt])[0] for prompt in prompts]

    return {"one_by_one": alone, "together": together,
            "transformers_one_by_one": one_by_one, "transformers_together": padded}  # fmt: skip


def compare(ways: dict[str, Arm], prompts: Sequence[Ids]) -> dict[str, Any]:
    """Tokens a second of each way, and which answers differ from those written one by one."""
    ordered = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    batches = [ordered[begin : begin + BATCH] for begin in range(0, len(ordered), BATCH)]
    for way in ways.values():
        way([prompts[place] for place in batches[0]])  # nobody pays for what is made once
    seconds, answers = defaultdict[str, float](float), defaultdict[str, dict[int, Ids]](dict)
    for batch in batches:
        for name, way in ways.items():
            begun = time.perf_counter()
            written = way([prompts[place] for place in batch])
            seconds[name] += time.perf_counter() - begun
            answers[name] |= dict(zip(batch, written, strict=True))
    told = {
        name: {
            "answer_tokens": (count := sum(map(len, answers[name].values()))),
            "seconds": round(seconds[name], 2),
            "tokens_per_second": round(count / seconds[name], 1),
            "unlike_one_by_one": sorted(
                place for place, ids in answers[name].items() if ids != answers["one_by_one"][place]
            ),
        }
        for name in ways
    }
    gain = seconds["one_by_one"] / seconds["together"]
    return {"ways": told, "times_as_fast_together": round(gain, 2)}


if __name__ == "__main__":
    main()
