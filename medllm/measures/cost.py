"""What a quantized model costs to run, measured in a process of its own.

In the process that quantized it, the peak of memory is that of quantizing, and it only grows.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import BaseModelRef, Parent
from medllm.engines.base import Expects, likelihoods, require
from medllm.engines.open import open_model
from medllm.errors import SetupError
from medllm.models.children import following
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef

TOKENS = 4096
"""Of the held-out text, what is scored; the first text is scored once before the clock runs."""


def measure_cost(
    weights: Path, texts: Sequence[Sequence[int]], n_ctx: int, dtype: Dtype = "auto"
) -> dict[str, float]:
    """Seconds to load, tokens scored a second, and the peak memory of a new process in GiB.

    Raises:
        SetupError: that process died, as for want of memory.
    """
    how = {"n_ctx": n_ctx, "dtype": dtype}
    asked = json.dumps({"weights": str(weights), "texts": _first(texts), **how})
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(
        following(command),
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        # the package that runs here, wherever this process has it from
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        message = f"{weights.name} could not be loaded and scored in a new process: {last:.200}"
        raise SetupError(message, "free memory, then run the same command again")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _first(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    chosen: list[list[int]] = []
    for ids in texts:
        if room := TOKENS - sum(map(len, chosen)):
            chosen.append(list(ids[:room]))
    return chosen


def main() -> None:
    """Measure what stdin names; the figures are the last line of stdout."""
    asked = json.load(sys.stdin)
    path = Path(asked["weights"])
    parent = Parent(kind="quantized", path=str(path), identity="")
    model = ModelRef(str(path), path, None, parent, BaseModelRef(id=str(path)))
    began = time.monotonic()
    opened = open_model(model, n_ctx=asked["n_ctx"], dtype=asked["dtype"])
    engine = require(opened, Expects, "quantize")
    loaded = time.monotonic() - began
    texts = asked["texts"]
    _score(engine, texts[:1])
    began = time.monotonic()
    _score(engine, texts)
    seconds = max(time.monotonic() - began, 1e-9)
    figures = {
        "load_seconds": loaded,
        "tokens_per_second": sum(map(len, texts)) / seconds,
        "peak_memory_gib": _peak_bytes() / 2**30,
    }
    sys.stdout.write(f"\n{json.dumps(figures | _peak_of_gpu())}\n")


def _score(engine: Expects, texts: Sequence[Sequence[int]]) -> None:
    for ids in texts:
        for block in engine.log_probs(ids):
            likelihoods(block, [0])  # a GPU has computed the block once a number of it is here


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss of a new process begins with that of the one before
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak_of_gpu() -> dict[str, float]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"peak_gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30}


if __name__ == "__main__":
    main()
