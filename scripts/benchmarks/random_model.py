"""A Llama with random weights in bf16, written shard by shard, and calibration rows for it.

    python scripts/benchmarks/random_model.py FOLDER [--shape 1.1b] [--layers N]

Shapes are those of TinyLlama-1.1B and Llama-3-8B, whose own weights nobody needs to time a
quantizer. The vocabulary is the shape's, the tokenizer is that of `medllm/tiny`: its ids are a
small part of the vocabulary. One layer is in memory at a time.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from medllm.models.load import resolve_model, save_tokenizer

SHAPES: dict[str, dict[str, int]] = {
    "1.1b": {
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "100m": {
        "vocab_size": 8000,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 10,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
    },
    "narrow": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
    },
    "smoke": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
LAYERS_IN_A_SHARD = 6


def build(folder: Path, shape: str, layers: int | None = None, device: str = "cpu") -> Path:
    """Write the model, unless it is there."""
    if (folder / "config.json").is_file():
        return folder
    from transformers import LlamaConfig

    config = LlamaConfig(
        **SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {}),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, config, device)
    save_tokenizer(resolve_model("medllm/tiny"), folder)
    config.save_pretrained(folder)  # last: with it the model is whole
    return folder


def write_weights(folder: Path, config: Any, device: str) -> None:
    """Shards of a few layers, and their index."""
    from safetensors.torch import save_file

    numbers = range(config.num_hidden_layers)
    groups = [numbers[i : i + LAYERS_IN_A_SHARD] for i in numbers[::LAYERS_IN_A_SHARD]]
    index: dict[str, str] = {}
    for count, group in enumerate(groups, 1):
        shapes = [pair for number in group for pair in layer_shapes(config, number)]
        if count == 1:
            shapes.append(("model.embed_tokens.weight", (config.vocab_size, config.hidden_size)))
        if count == len(groups):
            shapes.append(("model.norm.weight", (config.hidden_size,)))
            shapes.append(("lm_head.weight", (config.vocab_size, config.hidden_size)))
        name = f"model-{count:05}-of-{len(groups):05}.safetensors"
        tensors = {key: random_tensor(key, shape, device) for key, shape in shapes}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
    content = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def layer_shapes(config: Any, number: int) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the weights of one layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = hidden // config.num_attention_heads * config.num_key_value_heads
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return [(f"model.layers.{number}.{name}.weight", shape) for name, shape in shapes.items()]


def random_tensor(name: str, shape: tuple[int, ...], device: str) -> Any:
    """Normal numbers of a size that keeps activations in range; norms are ones."""
    import torch

    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    generator = torch.Generator(device).manual_seed(sum(map(ord, name)))
    numbers = torch.randn(shape, generator=generator, device=device) / shape[1] ** 0.5
    return numbers.to(torch.bfloat16).cpu()


def write_calibration(folder: Path, texts: int, tokens: int) -> Path:
    """A calibration set of generated reports: so many texts of at least so many tokens."""
    from random import Random

    from medllm.data.generators.radiology import build_report
    from medllm.models.load import load_tokenizer

    tokenizer = load_tokenizer(resolve_model("medllm/tiny").location)
    rows = []
    for number in range(texts):
        text, count, draw = "", 0, 0
        while count < tokens:
            text += build_report(Random(f"{number}-{draw}")).text + "\n"
            count, draw = len(tokenizer(text)["input_ids"]), draw + 1
        rows.append({"id": f"report/{number}", "text": text})
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "calibration.jsonl").write_text(lines, encoding="utf-8")
    return folder


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--layers", type=int, help="other than the shape has")
    asked = parser.parse_args()
    print(build(asked.folder, asked.shape, asked.layers))


if __name__ == "__main__":
    main()
