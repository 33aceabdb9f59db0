"""Peak memory of quantizing against the size of the model: it follows one layer.

    python scripts/benchmarks/quantize_memory.py [--shape 1.1b] [--texts 16] [--tokens 512]

Random weights in bf16, several shards. Each row is a process of its own: GPTQ by bare gptqmodel
and by medllm, and GGUF Q4_K_M with an importance matrix, the model whole or its layers read from
the disk. Memory that is a process's own is told apart from pages of the model's files, which the
system takes back when it needs them. Writes docs/benchmarks/quantize-memory.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import random_model

WHOLE_GIB = 1e6


def main() -> None:
    """Measure each way, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=random_model.SHAPES, default="1.1b")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--only", action="append", default=[], help="a row by its name")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        model = random_model.build(room / "model", asked.shape)
        texts = random_model.write_calibration(room / "texts", asked.texts, asked.tokens)
        size = sum(file.stat().st_size for file in model.glob("*.safetensors")) / 2**20
        rows = []
        for name, command in commands(model, texts, room).items():
            if not asked.only or name in asked.only:
                rows.append({"what": name, **watch(command, room)})
                print(f"model {size:,.0f} MiB", rows[-1], flush=True)
    about = {"shape": asked.shape, "texts": asked.texts, "tokens": asked.tokens}
    measure.write("quantize-memory", {**about, "model_mib": round(size), "rows": rows})


def commands(model: Path, texts: Path, room: Path) -> dict[str, list[str]]:
    """By name what is measured."""
    bare = [
        sys.executable,
        str(Path(__file__).resolve().with_name("quantize_gptq.py")),
        "--one",
        "bare",
    ]
    ours = [sys.executable, "-m", "medllm", "quantize", "--model", str(model)]
    ours += ["--calibration", str(texts), "--output", str(room / "out"), "--overwrite"]
    gguf = [*ours, "--format", "gguf", "--type", "Q4_K_M", "--set"]
    (room / "bare").mkdir()
    return {
        "bare gptqmodel": [*bare, str(model), str(texts), str(room / "bare")],
        "gptq": [*ours, "--format", "gptq"],
        "gguf, whole": [*gguf, f"quantize.max_memory_gib={WHOLE_GIB}"],
        "gguf, layers on the disk": [*gguf, "quantize.max_memory_gib=0.0"],
    }


def watch(command: list[str], room: Path) -> dict[str, Any]:
    """The most memory, looked at fifty times a second, of a process and its own."""
    # gptqmodel writes logs where it stands
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=room, **silent)
    most = {"own_mib": 0, "resident_mib": 0}
    while process.poll() is None:
        for name, now in zip(most, resident(family(process.pid)), strict=True):
            most[name] = max(most[name], now)
        time.sleep(0.02)
    return {**most, "exit_code": process.returncode}


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in family(int(child)))]


def resident(pids: list[int]) -> tuple[int, int]:
    """MiB of memory of their own, and with the pages of files."""
    own = every = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:  # it has ended
            continue
        status = dict(line.split(":", 1) for line in lines)
        own += int(status.get("RssAnon", "0").split()[0])
        every += int(status.get("VmRSS", "0").split()[0])
    return own // 1024, every // 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
