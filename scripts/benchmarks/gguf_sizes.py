"""Bits of a weight in each type of GGUF, as llama.cpp mixes them: the table of `estimate.py`.

    python scripts/benchmarks/gguf_sizes.py

llama.cpp's quantizer says what it would make of a Llama of TinyLlama's proportions, eight times
narrower; printed are the bits of a weight in its layers, in the token embeddings, and in the output
layer.
"""

import ctypes
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import random_model

from medllm.engines.llama_native import load_llama_cpp
from medllm.quantize.gguf import files
from medllm.quantize.gguf.types import QUANTIZATION_TYPES

BITS = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_K": 6.5625, "q5_K": 5.5, "q4_K": 4.5,
    "q3_K": 3.4375, "q2_K": 2.625, "q5_0": 5.5, "q5_1": 6, "q4_0": 4.5, "q4_1": 5, "iq4_nl": 4.5,
    "iq4_xs": 4.25, "iq3_s": 3.4375, "iq3_xxs": 3.0625, "iq2_s": 2.5625, "iq2_xs": 2.3125,
    "iq2_xxs": 2.0625, "iq1_s": 1.5625, "iq1_m": 1.75,
}  # fmt: skip
"""Of the types of tensors: the blocks of ggml-common.h, their size by their weights."""
LINE = re.compile(r"\] +(\S+) +- \[ *(\d+), *(\d+).*type = +(\w+),(?:.*\((\w+)\))?")


def main() -> None:
    """Ask for each type and print its row."""
    with tempfile.TemporaryDirectory() as room:
        model = random_model.build(Path(room) / "model", "narrow")
        whole = Path(room) / "whole.gguf"
        files.convert_to_f16(model, whole)
        for name, number in QUANTIZATION_TYPES.items():
            print(f'    "{name}": {bits_of(plan(whole, number))},', flush=True)


def plan(whole: Path, number: int) -> str:
    """What llama.cpp logs of its plan for a type."""
    llama, _ = load_llama_cpp()
    lines: list[str] = []
    keep = llama.llama_log_callback(lambda _, text, __: lines.append(text.decode()))
    llama.llama_log_set(keep, ctypes.c_void_p(0))
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype, parameters.dry_run = number, True
    columns = {t.name: t.columns for t in files.read_tensors(whole) if t.type == "f16"}
    ones = {name: np.ones(count, np.float32) for name, count in columns.items()}
    parameters.imatrix = files._importance_array(llama, ones)
    paths = (os.fsencode(whole), os.fsencode(whole.with_name("none.gguf")))
    llama.llama_log_set(keep, ctypes.c_void_p(0))
    assert llama.llama_model_quantize(*paths, ctypes.byref(parameters)) == 0
    return "".join(lines)


def bits_of(log: str) -> tuple[float, float, float]:
    """Of the layers on average, the embeddings and the output layer."""
    weights = bits = 0.0
    ends = {}
    for name, columns, rows, before, after in LINE.findall(log):
        size = int(columns) * int(rows)
        if not name.startswith("blk."):
            ends[name] = BITS[after or before]
        elif int(rows) > 1:
            weights, bits = weights + size, bits + size * BITS[after or before]
    return round(bits / weights, 3), ends["token_embd.weight"], ends["output.weight"]


if __name__ == "__main__":
    main()
