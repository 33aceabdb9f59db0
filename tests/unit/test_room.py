"""What fits into memory is told from shapes, before anything is loaded."""

import pytest

from medllm.errors import SetupError
from medllm.measures.room import Room, Weights, smaller_ways, token_bytes

LLAMA_8B = Weights(
    {
        "model.embed_tokens.weight": (128256, 4096),
        "lm_head.weight": (128256, 4096),
        **{f"model.layers.{n}.mlp.up_proj.weight": (4096, 4096 * 13) for n in range(32)},
        **{f"model.layers.{n}.input_layernorm.weight": (4096,) for n in range(32)},
    }
)
"""Of its size, in fewer matrices."""


def refused(room: Room, needed: float) -> SetupError:
    with pytest.raises(SetupError) as caught:
        room.check(
            "evaluate: loading llama in bfloat16", needed, smaller_ways(LLAMA_8B, "bfloat16")
        )
    return caught.value


def test_sizes_follow_from_shapes() -> None:
    assert LLAMA_8B.gib(2) == pytest.approx(15.0, abs=0.1)
    assert LLAMA_8B.quantized_gib(4.5 / 8) == pytest.approx(5.6, abs=0.1)


def test_the_largest_form_that_fits_is_the_remedy() -> None:
    sixteen = LLAMA_8B.gib(2)

    problem = refused(Room("cuda", 12.0, 8.0), sixteen)
    assert problem.message == (
        "evaluate: loading llama in bfloat16 takes about 15 GiB, and 12 GiB of the GPU's memory "
        "are free"
    )
    assert problem.fix.startswith("8 bits, such as quantize --format gguf --type Q8_0, (about 8.")
    assert "nvidia-smi" in problem.fix and "processor" not in problem.fix
    assert refused(Room("cuda", 6.0, 8.0), sixteen).fix.startswith("4 bits, such as")
    assert "take a smaller model" in refused(Room("cuda", 3.0, 8.0), sixteen).fix
    assert "computes on the processor" in refused(Room("cuda", 6.0, 64.0), sixteen).fix
    assert "nvidia-smi" not in refused(Room("cpu", 6.0, 6.0), sixteen).fix


def test_what_fits_is_not_refused() -> None:
    Room("cuda", 16.0, 8.0).check("evaluate: loading llama", LLAMA_8B.gib(2))
    assert [way for way, _ in smaller_ways(LLAMA_8B, "float32")][0] == "--set dtype=bfloat16"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (
            {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
             "hidden_size": 4096},
            2 * 32 * 8 * 128 * 2,
        ),
        ({"n_layer": 2}, None),
        ({"text_config": {"num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 64,
                          "hidden_size": 128,
                          "layer_types": ["sliding_attention", "full_attention"]}},
         2 * 1 * 4 * 64 * 2),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "kv_lora_rank": 8},
         None),
    ],
)  # fmt: skip
def test_keys_and_values_of_a_token(config: dict[str, object], size: int | None) -> None:
    assert token_bytes(config, 2) == size
