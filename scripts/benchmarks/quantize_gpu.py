"""GPTQ of an 8B-shaped model on a CUDA GPU: time and peak memory, beside bare gptqmodel.

    python scripts/benchmarks/quantize_gpu.py [--layers 32] [--texts 256] [--tokens 2048] [--smoke]

Random weights of Llama-3-8B's shape; where all layers do not fit the time, `--layers 8`. Each run
is a process of its own, by turns. `--smoke` walks the same way on the processor with a tiny shape.
Writes docs/benchmarks/quantize-gpu.json (not with `--smoke`).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import quantize_gptq
import random_model


def main() -> None:
    """Measure both, print the figures, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--who", choices=("medllm", "bare"), help="only one of them")
    parser.add_argument("--folder", type=Path, help="keeps the model for a next run")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, on any machine")
    asked = parser.parse_args()
    shape = "smoke" if asked.smoke else "8b"
    layers, texts, tokens = (2, 4, 64) if asked.smoke else (asked.layers, asked.texts, asked.tokens)
    machine = gpu(asked.smoke)
    with tempfile.TemporaryDirectory() as folder:
        room = asked.folder or Path(folder)
        device = "cpu" if asked.smoke else "cuda"
        model = random_model.build(room / f"model-{layers}", shape, layers, device)
        rows = random_model.write_calibration(room / "texts", texts, tokens)
        cut_texts(rows, tokens)
        if asked.who:
            found: dict[str, Any] = quantize_gptq.run_together([asked.who], model, rows)
        else:
            found = quantize_gptq.compare(model, rows, asked.pairs, in_turns=False)
    print(json.dumps(found, indent=1))
    if not asked.smoke and not asked.who:
        about = {"gpu": machine, "shape": shape, "layers": layers, "texts": texts, "tokens": tokens}
        measure.write("quantize-gpu", {**about, **found})


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


if __name__ == "__main__":
    main()
