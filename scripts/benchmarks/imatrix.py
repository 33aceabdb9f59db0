"""Our importance matrix beside that of llama.cpp's `llama-imatrix`, on the same token ids.

    python scripts/benchmarks/imatrix.py LLAMA_CPP [--model REF]... [--experts] [--texts N]

LLAMA_CPP is the source of llama.cpp in the sdist of llama-cpp-python (vendor/llama.cpp): of it,
llama-imatrix and llama-quantize are compiled here against the libraries of the installed wheel.
Writes docs/benchmarks/imatrix.json: for each model the correlation and the difference of each
tensor's importance, the seconds of both and of a bare forward pass, and whether llama-quantize
makes the same file, byte for byte, of our imatrix.gguf as we do in-process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import llama_cpp
import measure
import numpy as np

from medllm.data.generators import radiology
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.llama_cpp_setup import VERSION, import_gguf
from medllm.models.load import (
    load_causal_lm,
    load_tokenizer,
    read_config,
    resolve_model,
    save_tokenizer,
)
from medllm.quantize.calibration import Calibration
from medllm.quantize.gguf import files, imatrix

LIBRARIES = Path(llama_cpp.__file__).parents[1] / "lib"
HEADERS = ("common", "include", "ggml/include", "vendor")
NAMES = ("llama-common", "llama", "ggml", "ggml-base")
ENVIRONMENT = {"LD_LIBRARY_PATH": str(LIBRARIES), "OMP_WAIT_POLICY": "passive"}
TYPES = ("Q4_K_M", "Q3_K_S", "IQ2_XS")
ROUNDS = 5
ROUTER = "ffn_gate_inp"
"""What chooses the experts: llama-imatrix notes its inputs, but no quantizer rounds it."""


def main() -> None:
    """Compare on every model and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="LLAMA_CPP")
    parser.add_argument("--model", action="append", default=[], help="default: medllm/tiny")
    parser.add_argument("--experts", action="store_true", help="also a Mixtral of random weights")
    parser.add_argument("--texts", type=int, default=200, help="generated reports to calibrate on")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        for tool in ("imatrix", "quantize"):
            compile_tool(asked.source, tool, Path(room))
        models = asked.model or ["medllm/tiny"]
        models += [build_mixtral(Path(room) / "models/mixtral-random")] if asked.experts else []
        found = [compare(model, asked.texts, Path(room)) for model in models]
    for figures in found:
        print(json.dumps({k: v for k, v in figures.items() if k != "tensors"}, indent=1))
    measure.write("imatrix", {"llama_cpp_python": VERSION, "models": found})


def build_mixtral(folder: Path) -> str:
    """A model of eight experts in each of two layers, with the built-in model's tokenizer."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    tiny = resolve_model("medllm/tiny")
    config = MixtralConfig(
        vocab_size=read_config(tiny.path)["vocab_size"],
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(folder)
    save_tokenizer(tiny, folder)
    return str(folder)


def compile_tool(source: Path, tool: str, room: Path) -> None:
    """A tool of llama.cpp, linked to what the wheel brings."""
    includes = [f"-I{source / folder}" for folder in HEADERS]
    libraries = [f"-L{LIBRARIES}", *(f"-l{name}" for name in NAMES)]
    code = map(str, (source / "tools" / tool).glob("*.cpp"))
    command = ["c++", "-O2", "-std=c++17", *includes, *code, "-o", str(room / f"llama-{tool}")]
    subprocess.run([*command, *libraries], check=True)


def compare(ref: str, texts: int, tools: Path) -> dict[str, Any]:
    """The figures of one model."""
    room = tools / Path(ref).name
    room.mkdir()
    model = resolve_model(ref)
    write_texts(texts, room)
    files.convert_to_f16(model.path, room / "f16.gguf")
    same = same_token_ids(model.location, room)
    ours, our_seconds = run_ours(model, room)
    theirs, their_seconds = run_theirs(tools / "llama-imatrix", room)
    tensors = {name: agreement(ours.layers[name], sums) for name, sums in theirs.items()}
    return {
        "model": Path(ref).name,
        "texts": texts,
        "chunks": ours.chunks,
        "same_token_ids": same,
        "same_tensors": theirs.keys() == ours.layers.keys(),
        "lowest_correlation": min(each["correlation"] for each in tensors.values()),
        "largest_relative_difference": max(each["difference"] for each in tensors.values()),
        "same_file_as_llama_quantize": same_files(ours, tools / "llama-quantize", room),
        "seconds": {**our_seconds, "llama-imatrix, whole process": their_seconds},
        "tensors": tensors,
    }


def write_texts(count: int, room: Path) -> None:
    """The same text for both: as a calibration set of one row, and as a plain file."""
    reports = (radiology.build_report(Random(f"bench-{n}")).text for n in range(count))
    text = "\n".join(reports).strip()
    (room / "text.txt").write_text(text, encoding="utf-8")
    (room / "calibration").mkdir()
    row = json.dumps({"text": text})
    (room / "calibration/calibration.jsonl").write_text(row + "\n", encoding="utf-8")


def same_token_ids(location: str, room: Path) -> bool:
    """Whether the text becomes the same token ids in transformers and in llama.cpp."""
    text = (room / "text.txt").read_text(encoding="utf-8")
    engine = LlamaCppEngine(room / "f16.gguf", n_ctx=512)
    theirs = engine.encode(text, add_special_tokens=True)
    ours: list[int] = load_tokenizer(location)(text)["input_ids"]
    return ours == theirs


def run_ours(model: Any, room: Path) -> tuple[imatrix.Matrix, dict[str, float]]:
    """The matrix of medllm, by names of tensors, and the median seconds of its parts."""
    source = Calibration.open(model, room / "calibration")
    began = time.perf_counter()
    found = imatrix.name_tensors(imatrix.measure_inputs(model, source), room / "f16.gguf")
    whole = time.perf_counter() - began
    loaded = load_causal_lm(model.location)
    ids = load_tokenizer(model.location)((room / "text.txt").read_text(encoding="utf-8"))
    chunks = imatrix.cut_chunks([ids["input_ids"]], 512, None)
    pairs = [(forward(loaded, chunks), measured(loaded, chunks)) for _ in range(ROUNDS + 1)][1:]
    bare, with_sums = (float(np.median(times)) for times in zip(*pairs, strict=True))
    seconds = {"medllm, loading and tokenizing too": whole, "medllm, the pass": with_sums}
    ratio = float(np.median([both / alone for alone, both in pairs]))
    return found, {**seconds, "a bare forward pass": bare, "pass / bare pass": ratio}


def forward(model: Any, chunks: Any) -> float:
    """Seconds of a pass over the chunks, logits included, and nothing else."""
    import torch

    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(chunks), imatrix.CHUNKS_AT_ONCE):
            batch = torch.from_numpy(chunks[start : start + imatrix.CHUNKS_AT_ONCE])
            model(input_ids=batch.to(model.device), use_cache=False)
    return time.perf_counter() - began


def measured(model: Any, chunks: Any) -> float:
    """Seconds of the pass that sums."""
    began = time.perf_counter()
    imatrix._measure(model, chunks)
    return time.perf_counter() - began


def run_theirs(tool: Path, room: Path) -> tuple[dict[str, Any], float]:
    """The mean squares that llama-imatrix found, by names of tensors, and its median seconds."""
    target = room / "theirs.gguf"
    files = ["-m", room / "f16.gguf", "-f", room / "text.txt", "-o", target]
    options = ["-c", 512, "-t", len(os.sched_getaffinity(0)), "--no-ppl"]
    command = [str(part) for part in (tool, *files, *options)]
    runs = [measure.run(command, ENVIRONMENT) for _ in range(ROUNDS)]
    assert all(run.exit_code == 0 for run in runs), command
    return read_imatrix(target), measure.median_seconds(runs)


def same_files(matrix: imatrix.Matrix, tool: Path, room: Path) -> dict[str, bool]:
    """Whether llama-quantize makes of our imatrix.gguf what we make in-process."""
    imatrix.write_imatrix(matrix, room / "imatrix.gguf")
    same = {}
    for name in TYPES:
        files.quantize_file(room / "f16.gguf", room / "ours.gguf", name, **matrix.parameters)
        command = [tool, "--imatrix", "imatrix.gguf", "f16.gguf", "theirs.gguf", name]
        subprocess.run(
            command, cwd=room, env={**os.environ, **ENVIRONMENT}, capture_output=True, check=True
        )
        same[name] = (room / "ours.gguf").read_bytes() == (room / "theirs.gguf").read_bytes()
    return same


def read_imatrix(path: Path) -> dict[str, Any]:
    """`in_sum2 / counts` of an imatrix file, a row for each expert.

    In a process of its own, with llama.cpp's gguf-py.
    """
    folder = Path(str(import_gguf("constants").__file__)).parents[1]
    script = (
        "import sys, gguf, numpy; tensors = gguf.GGUFReader(sys.argv[1]).tensors; "
        "numpy.savez(sys.argv[2], **{tensor.name: tensor.data for tensor in tensors})"
    )
    arrays = path.with_suffix(".npz")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", script, str(path), str(arrays)]
    subprocess.run(command, env=environment, check=True)
    found = np.load(arrays)
    names = [name.removesuffix(".in_sum2") for name in found if name.endswith(".in_sum2")]
    rows = {name: np.atleast_2d(values) for name, values in found.items()}
    return {
        name: rows[f"{name}.in_sum2"] / np.maximum(rows[f"{name}.counts"], 1)
        for name in names
        if ROUTER not in name
    }


def agreement(ours: imatrix.Squares, theirs: Any) -> dict[str, float]:
    """Pearson's correlation, and the norm of the difference relative to the norm.

    Of experts the worst one counts, of those that a token reached; those that llama-imatrix saw no
    token for must be the same.
    """
    means = ours.importance.reshape(theirs.shape).astype(np.float64)
    reached = theirs.any(axis=1)
    assert (reached == (ours.tokens > 0)).all()
    pairs = list(zip(means[reached], theirs[reached], strict=True))
    norm = np.linalg.norm
    return {
        "correlation": min(float(np.corrcoef(one, other)[0, 1]) for one, other in pairs),
        "difference": max(float(norm(one - other) / norm(other)) for one, other in pairs),
    }


if __name__ == "__main__":
    main()
