"""LoRA and QLoRA of an 8B-shaped model on a CUDA GPU: tokens/s, memory, share of the matmul rate.

    python scripts/benchmarks/finetune_gpu.py [--arm NAME]... [--layers 32] [--steps 12]
        [--seconds 100] [--minutes 9] [--unsloth FOLDER] [--folder ROOM] [--smoke]

Random weights of Llama-3-8B's shape, and examples of up to 2,048 tokens made of generated reports.
Each arm is a process of its own with a limit of `--seconds`, most important first; none starts
after `--minutes`. The first steps warm up. Useful tokens leave padding out. The share counts 4
operations for each weight that multiplies and each useful token (2 forward, 2 backward to the
activations; the base's own weights have no gradient), nothing for attention and nothing for what is
computed again, over the bfloat16 rate of one large product of matrices in the same process.

`lora` and `qlora` are the defaults of `medllm finetune`; `before` is all of today's means left out,
and each of the arms behind it adds one of them to it. `trl` is TRL with its own defaults, and
`trl-packed` TRL on the rows of `lora`, in their order: their losses are compared, step by step.
unsloth is loaded from `--unsloth FOLDER`, where it lies installed, alone (`pip install --target`);
without xformers and diffusers, if they are not there. `--smoke` walks all arms on any machine.
Writes docs/benchmarks/finetune-gpu.json after each arm (not with `--smoke`), or into the folder
that MEDLLM_BENCHMARKS names.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import measure
import random_model
from finetune_gpu_arms import ARMS, BATCH, LENGTH, SHORT, UNSLOTH, WARM, open_arm
from quantize_gpu import gpu

from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.data.generators import radiology

ALIKE = 0.01
"""How far the losses of `lora` and `trl-packed` may lie apart, as a share."""


def main() -> None:
    """Run the arms, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arm", action="append", choices=[*ARMS, *UNSLOTH], default=[])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=100, help="of an arm, at most")
    parser.add_argument("--minutes", type=float, default=60, help="after which no arm starts")
    parser.add_argument("--unsloth", type=Path, help="a folder with unsloth and what it needs")
    parser.add_argument("--folder", type=Path, help="keeps the model for a next run")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on any machine")
    asked = parser.parse_args()
    machine = gpu(asked.smoke)
    shape, layers = ("smoke", 2) if asked.smoke else ("8b", asked.layers)
    steps = WARM + 2 if asked.smoke else asked.steps
    about = {"gpu": machine, "shape": shape, "layers": layers, "steps": steps, "batch": BATCH}
    ends = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        if asked.smoke:
            os.environ[SHORT] = "512"
        room = asked.folder or Path(folder)
        device = "cpu" if asked.smoke else "cuda"
        model = random_model.build(room / f"model-{layers}", shape, layers, device)
        data = write_examples(room / "data", BATCH * steps * 8)
        found: dict[str, dict[str, Any]] = {}
        for arm in asked.arm or [*ARMS, *(UNSLOTH if asked.unsloth else ())]:
            if time.monotonic() > ends:
                found[arm] = {"failed": f"not begun within {asked.minutes:g} minutes"}
                continue
            job = [arm, str(model), str(data), str(steps), str(asked.unsloth or "")]
            found[arm] = run_apart(job, asked.seconds)
            loss = compare_losses(found)
            result = {**about, "length": LENGTH, "losses": loss, "arms": found}
            measure.write("finetune-gpu", result, smoke=asked.smoke)
    print_table(found, loss)


def write_examples(folder: Path, count: int) -> Path:
    """Questions on one to several generated reports, with the last report as the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        draw = Random(f"example-{number}")
        reports = [radiology.build_report(draw).text for _ in range(draw.randint(1, 8))]
        prompt = (Message("user", "\n".join(reports)),)
        rows.append(Example(f"r/{number}", "reports", str(number), prompt, reports[-1]))
    write_jsonl(folder / "train.jsonl", map(to_json, rows))
    return folder


def run_apart(job: list[str], seconds: float) -> dict[str, Any]:
    """One arm in a process of its own; one that fails or takes too long says so.

    What it had found out by then is kept.
    """
    arm = job[0]
    print(f"{arm}: begun", flush=True)
    with tempfile.TemporaryDirectory() as room:
        figures, errors = Path(room) / "figures.json", Path(room) / "errors"
        command = [sys.executable, str(Path(__file__).resolve()), "--one", *job, room]
        failed = None
        try:
            with errors.open("w") as stream:
                subprocess.run(command, stderr=stream, check=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            failed = f"no end within {seconds:g} s"
        except subprocess.CalledProcessError as problem:
            said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            failed = said[-1][:300] if said else f"exit code {problem.returncode}"
        found = json.loads(figures.read_text("utf-8")) if figures.is_file() else {}
    found |= {"failed": failed} if failed else {}
    print(f"{arm}: {json.dumps(found)}", flush=True)
    return dict(found)


def compare_losses(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How far the losses of the same training lie apart: ours, and plain TRL's on the same rows."""
    ours, theirs = (found.get(arm, {}).get("losses", ()) for arm in ("lora", "trl-packed"))
    pairs = list(zip(ours, theirs, strict=False))
    if not pairs:
        return {}
    apart = [abs(a - b) / b for a, b in pairs]
    mean = abs(statistics.fmean(a for a, _ in pairs) / statistics.fmean(b for _, b in pairs) - 1)
    return {"steps": len(pairs), "mean_differs": mean, "most_in_a_step": max(apart),
            "alike": mean < ALIKE}  # fmt: skip


def print_table(found: Mapping[str, Mapping[str, Any]], loss: Mapping[str, Any]) -> None:
    """A line for each arm."""
    print(f"\n{'arm':24} {'tokens/s':>9} {'of 4N':>7} {'GiB':>6} {'first':>7} {'last':>7}")
    for arm, row in found.items():
        if "useful_tokens_per_second" in row:
            losses = row["losses"]
            print(
                f"{arm:24} {row['useful_tokens_per_second']:9,.0f} "
                f"{row['share_of_matmul_rate']:7.1%} {row['peak_memory_gib']:6.1f} "
                f"{losses[0]:7.3f} {losses[-1]:7.3f}  {row.get('recomputation') or ''}"
                f"{row.get('failed', '')}"
            )
        else:
            print(f"{arm:24} {row['failed']}")
    if loss:
        print(f"lora and trl-packed: mean loss differs by {loss['mean_differs']:.2%}")


def one(*job: str) -> None:
    """Train so many steps, and write what the later ones took, after each of them."""
    arm, model, data, steps, unsloth, room = job
    if unsloth and arm in UNSLOTH:
        sys.path.insert(0, unsloth)
        import unsloth as _  # noqa: F401 (before transformers, which it changes)
    import torch
    from transformers import TrainerCallback

    weights, peak = multiplying(Path(model)), matmul_rate()
    trainer = open_arm(arm, model, Path(data), int(steps), room)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    tokens = count_useful(trainer)
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            losses = [log["loss"] for log in state.log_history if "loss" in log]
            if "loss" not in logs or len(ends) <= WARM:
                return
            print(f"{arm}: step {len(ends)} of {steps}, loss {losses[-1]:.3f}", flush=True)
            of_step = args.gradient_accumulation_steps
            useful = sum(tokens[WARM * of_step : len(ends) * of_step])
            rate = useful / (ends[-1] - ends[WARM - 1])
            figures = {
                "useful_tokens_per_second": rate,
                "share_of_matmul_rate": 4 * weights * rate / peak,
                "peak_memory_gib": peak_memory_gib(),
                "matmul_tflops": peak / 1e12,
                "seconds_a_step": (ends[-1] - ends[WARM - 1]) / (len(ends) - WARM),
                "losses": losses,
                "recomputation": getattr(trainer, "recomputation", None),
            }
            (Path(room) / "figures.json").write_text(json.dumps(figures), encoding="utf-8")

    trainer.add_callback(Clock())
    trainer.train()


def peak_memory_gib() -> float:
    """The most that was allocated since the model is there."""
    from medllm.models.hardware import peak_memory_gib, pick_device

    return peak_memory_gib(pick_device())


def count_useful(trainer: Any) -> list[int]:
    """The tokens without padding of each batch that the trainer will have collated."""
    collate, tokens = trainer.data_collator, []
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        mask = batch.get("attention_mask")
        real = batch["input_ids"] != tokenizer.pad_token_id if mask is None else mask
        tokens.append(int(real.sum()))
        return batch

    trainer.data_collator = counting
    return tokens


def multiplying(model: Path) -> int:
    """The weights that every token is multiplied with: all but the embedding's."""
    from medllm.models.hardware import count_parameters, read_shapes

    rows, columns = read_shapes(model)["model.embed_tokens.weight"]
    return count_parameters(model) - rows * columns


def matmul_rate(rounds: int = 20) -> float:
    """Operations a second of a large product in bfloat16."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for count in (3, rounds):  # the first few warm up
        began = time.perf_counter()
        for _ in range(count):
            product = a @ b
        float(product[0, 0])  # waits
    return rounds * 2 * size**3 / (time.perf_counter() - began)


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
