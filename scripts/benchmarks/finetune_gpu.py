"""LoRA and QLoRA of an 8B-shaped model on a CUDA GPU: tokens/s, memory, model FLOP utilisation.

    python scripts/benchmarks/finetune_gpu.py [--arm NAME]... [--layers 32] [--steps 12] [--smoke]

Random weights of Llama-3-8B's shape, and examples of 200 to 2,000 tokens made of generated reports.
Each arm is a process of its own, through medllm's own trainer, or plain TRL's. The first steps warm
up. Useful tokens leave padding out. Utilisation counts 4 operations for each weight that multiplies
and each useful token (2 forward, 2 backward to the activations; the base's own weights have no
gradient), nothing for attention and nothing for what is computed again, over the bfloat16 rate of
one large product of matrices in the same process. `--smoke` walks the same way on any machine.
Writes docs/benchmarks/finetune-gpu.json (not with `--smoke`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import measure
import random_model
from finetune import conversations
from quantize_gpu import gpu

from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.data.generators import radiology

LENGTH, BATCH, WARM = 2048, 4, 3
FAST: dict[str, Any] = {"use_liger_kernel": True, "optim": "adamw_torch_fused"}
WHOLE: dict[str, Any] = {"gradient_checkpointing": False}
ARMS: dict[str, dict[str, Any]] = {
    "trl": {},
    "lora": {},
    "lora-liger": {"extra": FAST},
    "lora-packed": {"packing": True},
    "lora-packed-flex": {"packing": True, "attention": "flex_attention"},
    "lora-packed-liger": {"packing": True, "extra": FAST},
    "lora-packed-liger-stored": {"packing": True, "extra": FAST | WHOLE},
    "qlora": {"quantization": "nf4"},
    "qlora-packed-liger": {"quantization": "nf4", "packing": True, "extra": FAST},
}
"""Settings apart from the defaults; `stored` keeps activations instead of computing them again."""


def main() -> None:
    """Run the arms, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arm", action="append", choices=ARMS, default=[])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="keeps the model for a next run")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on any machine")
    asked = parser.parse_args()
    machine = gpu(asked.smoke)
    shape, layers = ("smoke", 2) if asked.smoke else ("8b", asked.layers)
    steps = WARM + 2 if asked.smoke else asked.steps
    with tempfile.TemporaryDirectory() as folder:
        room = asked.folder or Path(folder)
        device = "cpu" if asked.smoke else "cuda"
        model = random_model.build(room / f"model-{layers}", shape, layers, device)
        data = write_examples(room / "data", BATCH * steps * 8)
        arms = asked.arm or list(ARMS)
        found = {arm: run_apart(arm, model, data, steps) for arm in arms}
    if not asked.smoke:
        about = {"gpu": machine, "shape": shape, "layers": layers, "steps": steps}
        measure.write("finetune-gpu", {**about, "batch": BATCH, "length": LENGTH, "arms": found})


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


def run_apart(arm: str, model: Path, data: Path, steps: int) -> dict[str, Any]:
    """One arm in a process of its own; an arm that fails says why, and the others go on."""
    with tempfile.TemporaryDirectory() as room:
        figures = Path(room) / "figures.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--one", arm, str(model)]
        finished = subprocess.run(
            [*command, str(data), str(steps), room], capture_output=True, text=True, check=False
        )
        if finished.returncode:
            found: dict[str, Any] = {"failed": finished.stderr.strip().splitlines()[-1][:300]}
        else:
            found = json.loads(figures.read_text(encoding="utf-8"))
    print(arm, json.dumps(found), flush=True)
    return found


def one(arm: str, model: str, data: str, steps: str, room: str) -> None:
    """Train so many steps, and write what the later ones took."""
    import torch
    from transformers import TrainerCallback

    from medllm.models.hardware import peak_memory_gib, pick_device

    trainer = (plain_trl if arm == "trl" else of_medllm)(arm, model, Path(data), int(steps), room)
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    tokens = [log["num_tokens"] for log in trainer.state.log_history if "num_tokens" in log]
    rate = (tokens[int(steps) - 1] - tokens[WARM - 1]) / (ends[-1] - ends[WARM - 1])
    weights, peak = multiplying(Path(model)), matmul_rate()
    figures = {
        "useful_tokens_per_second": rate,
        "peak_memory_gib": peak_memory_gib(pick_device()),
        "matmul_tflops": peak / 1e12,
        "model_flop_utilisation": 4 * weights * rate / peak,
    }
    (Path(room) / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def of_medllm(arm: str, ref: str, data: Path, steps: int, room: str) -> Any:
    """The trainer of `medllm finetune`."""
    from medllm.finetune.config import FinetuneConfig, TrainingSettings
    from medllm.finetune.rows.material import Material
    from medllm.finetune.train.trainer import open_trainer
    from medllm.finetune.verb import open_inputs
    from medllm.models.hardware import pick_device

    settings = ARMS[arm]
    training = TrainingSettings(
        max_steps=steps,
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        packing=settings.get("packing"),
        logging_steps=1,
        report_to=(),
        extra={"save_strategy": "no", **settings.get("extra", {})},
    )
    config = FinetuneConfig(
        model=ref,
        data=data,
        quantization=settings.get("quantization"),
        attn_implementation=settings.get("attention", "auto"),
        training=training,
    )
    material = Material.read(open_inputs(config), config, pick_device())
    return open_trainer(config, material, Path(room), pick_device())


def plain_trl(arm: str, ref: str, data: Path, steps: int, room: str) -> Any:
    """TRL's own defaults on the same examples, with the same adapter and batch."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from medllm.data.example import read_examples

    rows = conversations(read_examples(data / "train.jsonl"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(ref, dtype="bfloat16").to(device)
    arguments = SFTConfig(
        output_dir=room,
        use_cpu=device == "cpu",
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    return SFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(ref),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )


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
