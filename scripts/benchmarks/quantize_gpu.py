"""GPTQ of an 8B-shaped model on a CUDA GPU: time and peak memory, beside bare gptqmodel.

    python scripts/benchmarks/quantize_gpu.py [--layers 2] [--texts 64] [--tokens 2048] [--smoke]

Random weights of Llama-3-8B's shape, but for the number of layers: all layers cost alike, so what
comes before the first one and what each one takes say what 32 would. gptqmodel compiles two kernels
when it is first used on a machine: that is done ahead, and timed apart. Each run is a process of
its own. Both import their libraries while the kernels are compiled and the model is written (into
memory where there is room), then wait for their turn. `--smoke` walks the same way on the processor
with a tiny shape. Writes docs/benchmarks/quantize-gpu.json (not with `--smoke`).
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, TextIO

import measure
import quantize_gptq
import random_model

RUNS = ("medllm", "bare")
WHOLE = 32
"""Layers of Llama-3-8B."""
MEMORY, MEMORY_GIB = Path("/dev/shm"), 24  # noqa: S108
"""A folder in memory, and how much of it must be free to write the model and two copies there."""
KERNELS = {
    "pack": "from gptqmodel import extension; print(extension.load('pack_block_cpu'))",
    "blocks": "from gptqmodel.quantization.gptq_cuda import block_update_available as load;"
    "print(load())",
}
"""What gptqmodel compiles at first use: packing (by a C++ compiler) and the update of a block of
columns (by nvcc; without one it does the same with PyTorch, a column at a time)."""
BEGAN = time.perf_counter()


def main() -> None:
    """Measure both, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--who", choices=RUNS, action="append", default=[], help="only this one")
    parser.add_argument("--folder", type=Path, help="keeps the model for a next run")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on any machine")
    parser.add_argument("--kernels", action="store_true", help="compile the two, and nothing else")
    asked = parser.parse_args()
    if asked.kernels:
        wait_for_all({name: start_compiling(code) for name, code in KERNELS.items()})
        return
    shape = "smoke" if asked.smoke else "8b"
    layers, texts, tokens = (2, 4, 64) if asked.smoke else (asked.layers, asked.texts, asked.tokens)
    machine = gpu(asked.smoke)
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
        room = Path(folder)
        with waiting(asked.who or RUNS, room) as runs:
            compiling = {name: start_compiling(code) for name, code in KERNELS.items()}
            model = (asked.folder or room) / f"model-{layers}"
            random_model.build(model, shape, layers, "cpu" if asked.smoke else "cuda")
            leave_the_card()
            say(f"the model is written: {layers} layers in {room.parent}")
            rows = random_model.write_calibration(room / "texts", texts, tokens)
            cut_texts(rows, tokens)
            say(f"{texts} texts are written")
            kernels = wait_for_all(compiling)
            found = {who: run(who, process, model, rows, room) for who, process in runs.items()}
            extrapolate(found, model, layers)
    about = {"gpu": machine, "shape": shape, "layers": layers, "texts": texts, "tokens": tokens}
    result = {**about, "kernels": kernels, "runs": found, "medllm / bare": compare(found)}
    print(json.dumps(result, indent=1))
    if not asked.who:
        measure.write("quantize-gpu", result, smoke=asked.smoke)


def say(what: str) -> None:
    """A line of progress, with the seconds since the start."""
    print(f"{time.perf_counter() - BEGAN:6.1f} s  {what}", file=sys.stderr, flush=True)


def gpu(smoke: bool) -> dict[str, Any]:
    """Its name and memory; ends with a word where there is none."""
    import torch

    if not torch.cuda.is_available():
        if smoke:
            return {}
        sys.exit("this needs a CUDA GPU that torch sees; `--smoke` walks its way without one")
    about = torch.cuda.get_device_properties(0)
    memory = round(about.total_memory / 2**30, 1)
    return {"name": about.name, "memory_gib": memory, "torch": torch.__version__}


def leave_the_card() -> None:
    """Give back what this process has cached of the GPU's memory."""
    import torch

    torch.cuda.empty_cache()


def fast_folder() -> Path | None:
    """A folder in memory with room enough; None for the usual one."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_GIB * 2**30
    return MEMORY if is_roomy else None


def start_compiling(code: str) -> tuple[float, subprocess.Popen[str]]:
    """A process that loads a kernel, which compiles it where that is still to do."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return time.perf_counter(), process


def wait_for_all(compiling: Mapping[str, tuple[float, subprocess.Popen[str]]]) -> dict[str, Any]:
    """What became of each."""
    return {name: wait_for(name, process) for name, process in compiling.items()}


def wait_for(name: str, compiling: tuple[float, subprocess.Popen[str]]) -> dict[str, Any]:
    """Whether there is such a kernel now, and after how many seconds, imports and all."""
    began, process = compiling
    said, _ = process.communicate()
    seconds = round(time.perf_counter() - began, 1)
    words = said.split()
    is_there = process.returncode == 0 and words[-1].strip("'{}") == "True"
    say(f"kernel {name}: {'there' if is_there else 'none'} after {seconds} s")
    return {"is_there": is_there, "seconds": seconds}


@contextmanager
def waiting(who: Any, room: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Processes that import what they need and then wait; none outlives the block."""
    script = str(Path(__file__).resolve())
    runs = {
        each: subprocess.Popen(
            [sys.executable, script, "--one", each], text=True, stdin=subprocess.PIPE, cwd=room
        )
        for each in who
    }
    try:
        yield runs
    finally:
        for process in runs.values():
            process.kill()
            process.wait()


def run(
    who: str, process: subprocess.Popen[str], model: Path, rows: Path, room: Path
) -> dict[str, Any]:
    """What it found, once it is told what to quantize."""
    say(f"{who}: begins")
    folder = room / who
    folder.mkdir()
    process.communicate("\n".join(map(str, (model, rows, folder))))
    if process.returncode:
        sys.exit(f"{who} failed")
    found = json.loads((folder / measure.FIGURES).read_text(encoding="utf-8"))
    shutil.rmtree(folder)  # of a folder in memory
    return by_layers(found)


def by_layers(found: dict[str, Any]) -> dict[str, Any]:
    """The figures, and what came before the first layer apart from what each one took."""
    began, ended = found.pop("quantize")
    ends = found.pop("layer_ends")
    first = found["before_first_layer_seconds"] = found.pop("first_layer") - began
    found["seconds_a_layer"] = (ended - began - first) / len(ends)
    found["quantize_seconds"] = ended - began
    return {name: quantize_gptq.median([value]) for name, value in found.items()}


def extrapolate(found: dict[str, dict[str, Any]], model: Path, layers: int) -> None:
    """Add what as many layers as Llama-3-8B has would take.

    Where a run may be resumed, as medllm's may, gptqmodel hashes all weights before the first
    layer, and so those of the further layers, too.
    """
    more = WHOLE - layers
    for who, figures in found.items():
        hashing = more * hashing_seconds(model) if who == "medllm" else 0.0
        seconds = figures["quantize_seconds"] + more * figures["seconds_a_layer"] + hashing
        figures["of_32_layers_seconds"] = quantize_gptq.median([seconds])


def hashing_seconds(model: Path) -> float:
    """What SHA-256 of the weights of one layer takes on this machine."""
    shards = sorted(model.glob("*.safetensors"))
    began = time.perf_counter()
    for shard in shards:
        with shard.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
    rate = sum(shard.stat().st_size for shard in shards) / (time.perf_counter() - began)
    config = argparse.Namespace(**json.loads((model / "config.json").read_text(encoding="utf-8")))
    numbers = sum(prod(shape) for _, shape in random_model.layer_shapes(config, 0))
    return 2 * numbers / rate  # bfloat16


def compare(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Of each figure, how many times bare gptqmodel's medllm's is."""
    if len(found) < len(RUNS):
        return {}
    ours, bare = (found[who] for who in RUNS)
    return {name: quantize_gptq.median([ours[name] / bare[name]]) for name in bare if bare[name]}


def cut_texts(folder: Path, tokens: int) -> None:
    """No text longer than asked: the last report of each is cut by its words."""
    from medllm.models.load import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model("medllm/tiny").location)
    path = folder / "calibration.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"][: tokens - 8]
        row["text"] = tokenizer.decode(ids)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# In a process of its own


def one(who: str) -> None:
    """Import, wait for the paths on stdin, quantize; the figures lie in the folder then."""
    from medllm.models.hardware import count_cpus

    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, count_cpus()))
    import gptqmodel
    import transformers.models.llama.modeling_llama  # noqa: F401
    import transformers.trainer  # noqa: F401

    aloud = os.fdopen(os.dup(2), "w")  # medllm silences the libraries, and with them this process
    tell(aloud, f"{who}: libraries are imported")
    times = watch(gptqmodel, lambda what: tell(aloud, f"{who}: {what}"))
    model, rows, folder = sys.stdin.read().split("\n")
    quantize_gptq.one(who, model, rows, folder)
    figures = Path(folder) / measure.FIGURES
    found = json.loads(figures.read_text(encoding="utf-8"))
    figures.write_text(json.dumps(found | times), encoding="utf-8")


def tell(aloud: TextIO, what: str) -> None:
    """A line of progress with the time that the process has run."""
    aloud.write(f"          {time.perf_counter() - BEGAN:6.1f} s  {what}\n")
    aloud.flush()


def watch(library: Any, told: Callable[[str], None]) -> dict[str, Any]:
    """Where the time goes, as it goes: loading, before the first layer, each layer, saving."""
    from gptqmodel.looper import module_looper as looper

    times: dict[str, Any] = {"layer_ends": []}
    kind = library.models.base.BaseQModel
    quantize = kind.quantize

    def timed(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = inner(*arguments, **named)
            times[f"{name}_seconds"] = time.perf_counter() - began
            told(f"{name} took {times[f'{name}_seconds']:.1f} s")
            return result

        return run

    def in_layers(self: Any, *arguments: Any, **named: Any) -> Any:
        own = getattr(self, "layer_callback", None)

        def ended(layer_idx: int, submodule_finalized: bool) -> Any:
            if submodule_finalized:
                times["layer_ends"].append(time.perf_counter())
                told(f"layer {layer_idx} is quantized")
            return (
                own(layer_idx=layer_idx, submodule_finalized=submodule_finalized) if own else None
            )

        self.layer_callback = ended
        return quantize(self, *arguments, **named)

    library.GPTQModel.load = staticmethod(timed("load", library.GPTQModel.load))
    kind.quantize, kind.save = in_layers, timed("save", kind.save)
    inner = looper.run_layer_stage

    def first_layer(*arguments: Any, **named: Any) -> Any:
        times["first_layer"] = time.perf_counter()
        told("the first layer begins")
        return inner(*arguments, **named)

    looper.run_layer_stage = first_layer
    return times


if __name__ == "__main__":
    one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main()
