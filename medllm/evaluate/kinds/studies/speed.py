"""Speed: how soon an answer begins, and how fast it is written, one after another."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Elsewhere, Engine, GenerateRequest, Generates, require
from medllm.engines.prompts import ask_messages
from medllm.errors import DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.generated import cell_of, ends, sampling_of
from medllm.measures.intervals import estimate_quantile, estimate_ratio
from medllm.models.hardware import count_cpus

WARM_UP = 3
"""Prompts that are asked first and not measured: memory is filled then, and kernels are chosen."""
WARMS = "warm-up, not measured"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Speed:
    """Answers as they come, one request at a time, so that no request waits for another."""

    ability: type[Engine] = Generates
    takes_examples = False
    settings: frozenset[str] = frozenset()
    measure = "tokens_per_s"

    def lacking(self, item: Example) -> str | None:
        """A question."""
        return None if item.prompt else "no prompt"

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Always, as in use."""
        return True

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The times of each answer, in seconds; the first ones warm the model up."""
        writing = require(engine, Generates, "evaluate")
        sampling = sampling_of(asking.spec.generation, asking.config.seed)
        warm_up = min(WARM_UP, len(items) // 4)
        asking.notes["generation"] = asking.spec.generation.model_dump(mode="json")
        asking.notes["speed"] = {
            "warm_up": warm_up, "at_once": 1, "prompts": asking.spec.dataset or "prepared data",
            "processors": None if isinstance(engine, Elsewhere) else count_cpus(),
        }  # fmt: skip
        with console.progress(asking.what, len(items)) as advance:
            for place, item in enumerate(items):
                try:
                    record = measure_answer(writing, ask_messages(engine, item.prompt, sampling))
                except DataError as problem:
                    record = {"not_asked": problem.message}
                yield {"id": item.id, **({"not_asked": WARMS} if place < warm_up else record)}
                advance(1)

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """Seconds to the first token and to the last, by quantiles, and tokens a second.

        `tokens_per_s` is over what follows the first token of all answers, `prompt_tokens_per_s`
        over what precedes it, where the engine knows how long prompts are.
        """
        numbers: dict[str, Any] = {"items": len(records), self.measure: None}
        numbers["answer_tokens"] = sum(r["answer_tokens"] for r in records) / len(records)
        for name in ("first_token_s", "answer_s"):
            values = [record[name] for record in records if record[name] is not None]
            for quantile, share in QUANTILES.items() if values else ():
                numbers |= ends(f"{name}_{quantile}", estimate_quantile(values, share))
        begun = [r for r in records if r["answer_tokens"] > 1 and r["first_token_s"] is not None]
        numbers |= _rate("tokens_per_s", [(r["answer_tokens"] - 1, r["answer_s"]
                                           - r["first_token_s"]) for r in begun])  # fmt: skip
        known = [r for r in begun if r.get("prompt_tokens")]
        return numbers | _rate(
            "prompt_tokens_per_s", [(r["prompt_tokens"], r["first_token_s"]) for r in known]
        )

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Tokens a second, and the seconds until an answer begins."""
        shown = [
            Column(
                f"{score['task']} tokens_per_s\nn = {score['items']}", cell_of(score, self.measure)
            )
        ]
        for quantile in QUANTILES:
            if f"first_token_s_{quantile}" in score:
                cell = cell_of(score, f"first_token_s_{quantile}")
                shown.append(Column(f"s to first token\n{quantile}", cell))
        return shown


def measure_answer(engine: Generates, request: GenerateRequest) -> Record:
    """The seconds until the first token of an answer and until its end, and its tokens.

    Raises:
        DataError: it cannot be answered.
    """
    began, first, tokens, reason = time.perf_counter(), None, 0, "stop"
    for piece in engine.generate(request):
        tokens += piece.tokens
        if tokens and first is None:
            first = time.perf_counter() - began
        reason = piece.finish_reason or reason
    return {
        "first_token_s": first,
        "answer_s": time.perf_counter() - began,
        "answer_tokens": tokens,
        "prompt_tokens": request.prompt_tokens,
        "finish_reason": reason,
    }


def _rate(name: str, pairs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Counts over seconds of all together, the interval bootstrapped over the answers."""
    timed = [(count, seconds) for count, seconds in pairs if seconds > 0]
    if not timed:
        return {}
    counts, seconds = zip(*timed, strict=True)
    return ends(name, estimate_ratio(counts, seconds))
