"""The fold of `medllm merge` beside PEFT's `merge_and_unload` and save, on 1.1 billion parameters.

    python scripts/benchmarks/merge.py [--rounds N] [--layers N]

A random Llama of TinyLlama's shape in bfloat16, in several shards, and a random LoRA adapter of
rank 16 on all linear layers. Each fold runs in a process of its own; the files are read once
before, so that neither waits for the disk. Writes docs/benchmarks/merge.json: seconds and peak
memory of both, and what an interpreter takes that only imports the same modules.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import random_model

from medllm.models.weights import read_weights

OURS = """
import sys, time
from pathlib import Path
import torch
from medllm.merge.adapter import read_changes
from medllm.merge.fold import Fold, open_base
from medllm.models.adapter import adapter_config
from medllm.models.load import resolve_model
if sys.argv[3] != "-":
    base, adapter = resolve_model(sys.argv[1]), resolve_model(sys.argv[2])
    began = time.perf_counter()
    changes = read_changes(adapter_config(adapter), adapter.path)
    Fold(open_base(base, changes), changes).write(Path(sys.argv[3]))
    print(time.perf_counter() - began)
"""
PEFT = """
import sys, time
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
began = time.perf_counter()
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
merged = PeftModel.from_pretrained(base, sys.argv[2]).merge_and_unload()
merged.save_pretrained(sys.argv[3], max_shard_size="500MB")
print(time.perf_counter() - began)
"""
PEAK = """
import atexit
def tell():
    import re
    status = open("/proc/self/status").read()
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024)
atexit.register(tell)
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, help="default: 22")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        base = random_model.build(room / "base", "1.1b", asked.layers)
        command = [sys.executable, "-c", ADAPTER, str(base), str(room / "adapter")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        tensors = read_weights(base).values()
        largest = max(tensor.size for tensor in tensors) / 2**20
        interpreter = fold(OURS, room, "-")["peak_mib"]
        runs: dict[str, list[dict[str, float]]] = {"medllm": [], "peft": []}
        for number in range(asked.rounds):
            for kind, code in (("medllm", OURS), ("peft", PEFT)):
                runs[kind].append(fold(code, room, str(room / f"{kind}-{number}")))
                print(kind, runs[kind][-1], file=sys.stderr)
    found = {kind: best(each) for kind, each in runs.items()}
    over = (found["medllm"]["peak_mib"] - interpreter) / largest
    results: dict[str, Any] = {
        "base_mib": sum(tensor.size for tensor in tensors) / 2**20,
        "largest_tensor_mib": largest,
        "interpreter_mib": interpreter,
        "peak_over_interpreter_in_largest_tensors": over,
        **found,
        "speedup": found["peft"]["seconds"] / found["medllm"]["seconds"],
    }
    print(json.dumps(results, indent=1))
    measure.write("merge", results)


ADAPTER = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
lora = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
get_peft_model(model, lora).save_pretrained(sys.argv[2])
"""


def fold(code: str, room: Path, out: str) -> dict[str, float]:
    """Seconds of one fold (0 where nothing is folded), and the peak memory of its process."""
    command = [sys.executable, "-c", PEAK + code, str(room / "base"), str(room / "adapter"), out]
    for file in room.glob("*/*.safetensors"):
        file.read_bytes()
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    seconds = 0.0 if out == "-" else float(said[said.index("peak") - 1])
    return {"seconds": seconds, "peak_mib": float(said[said.index("peak") + 1])}


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median time and the highest peak."""
    ordered = sorted(run["seconds"] for run in runs)
    return {"seconds": ordered[len(ordered) // 2], "peak_mib": max(run["peak_mib"] for run in runs)}


if __name__ == "__main__":
    main()
