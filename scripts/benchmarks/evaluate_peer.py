"""What `evaluate.py` measures of lm-evaluation-harness; runs in an environment with that alone."""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

SIZES = (1, 4, 8, 16, 32)
WARM = 16
TRIED = 48
"""Questions that each batch size is tried on."""
PROMPTS = ("pubmedqa/preprocess_pubmedqa.py", "medmcqa/utils_medmcqa.py")


def main() -> None:
    """Try batch sizes on some questions, or score a task at the size that is named."""
    room, model, shots = Path(sys.argv[1]), sys.argv[2], int(sys.argv[4])
    names, size = [f"local_{part}" for part in json.loads(sys.argv[5])], sys.argv[6]
    for file in PROMPTS:
        shutil.copy(Path(lm_eval.__file__).parent / "tasks" / file, room / "tasks")
    manager = TaskManager(include_path=str(room / "tasks"), include_defaults=False)
    lm = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=1)
    told = score(lm, manager, names, shots, int(size)) if size else tried(lm, manager, names, shots)
    Path("figures.json").write_text(json.dumps(told))


def tried(lm: HFLM, manager: TaskManager, names: list[str], shots: int) -> dict[str, Any]:
    """The seconds that some questions take at each batch size, the least of two."""
    run(lm, manager, names, shots, limit=WARM)
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for size in SIZES * 2:
        lm.batch_size_per_gpu = size
        began = time.perf_counter()
        run(lm, manager, names, shots, limit=TRIED // len(names))
        seconds[size].append(round(time.perf_counter() - began, 2))
    return {"tried": {size: min(took) for size, took in seconds.items()}}


def score(
    lm: HFLM, manager: TaskManager, names: list[str], shots: int, size: int
) -> dict[str, Any]:
    """The time of all questions, and the likelihoods by the digest of the prompt."""
    lm.batch_size_per_gpu = size
    run(lm, manager, names, shots, limit=WARM)
    began = time.perf_counter()
    found = run(lm, manager, names, shots)
    span = (began, time.perf_counter())
    scores = {
        digest(sample["arguments"][0][0]): [float(each[0]) for each in sample["filtered_resps"]]
        for part in names
        for sample in found["samples"][part]
    }
    versions = {"lm-eval": lm_eval.__version__, "torch": torch.__version__,
                "transformers": transformers.__version__}  # fmt: skip
    return {"span": span, "rounds": 1, "scores": scores, "versions": versions}


def run(
    lm: HFLM, manager: TaskManager, names: list[str], shots: int, limit: int | None = None
) -> Any:
    """The results of lm-eval, without bootstrapped errors, with its samples."""
    return evaluator.simple_evaluate(
        model=lm, tasks=names, task_manager=manager, num_fewshot=shots, bootstrap_iters=0,
        log_samples=True, limit=limit, verbosity="ERROR",
    )  # fmt: skip


def digest(text: str) -> str:
    """A name for a prompt that is the same for both."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
