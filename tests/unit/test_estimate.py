"""What quantizing is estimated to take, by hand."""

import json
import math
import os
from pathlib import Path

import pytest

from medllm.models.hardware import count_parameters, free_memory_gib, read_shapes
from medllm.quantize.config import GgufFormat, GptqFormat, QuantizeConfig
from medllm.quantize.estimate import (
    GGUF_BITS,
    Machine,
    Model,
    count_tokens,
    embeddings_of,
    estimate,
    render_estimate,
    result_bytes,
    scratch_bytes,
)
from medllm.quantize.gguf.types import QUANTIZATION_TYPES

SHAPES = {
    "model.embed_tokens.weight": (1000, 256),
    "model.layers.0.self_attn.q_proj.weight": (256, 256),
    "model.layers.0.mlp.down_proj.weight": (256, 512),
    "model.layers.0.input_layernorm.weight": (256,),
    "lm_head.weight": (1000, 256),
}
MACHINE = Machine("cpu", 1e9, room_gib=1.0)


def write_model(folder: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Two shards of bf16, all zeros."""
    folder.mkdir()
    names = list(shapes)
    for number, part in enumerate((names[:2], names[2:])):
        header, place = {}, 0
        for name in part:
            end = place + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [place, end]}
            place = end
        text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
        content = len(text).to_bytes(8, "little") + text
        path = folder / f"model-{number}.safetensors"
        path.write_bytes(content)
        os.truncate(path, len(content) + place)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", SHAPES)


def test_headers_tell_shapes(folder: Path) -> None:
    assert read_shapes(folder) == SHAPES
    assert count_parameters(folder) == 256_000 * 2 + 256 * 256 + 256 * 512 + 256
    assert read_shapes(folder / "nowhere") == {}


def test_gptq_is_weights_scales_zeros_and_the_group_of_each_column(folder: Path) -> None:
    q = 256 * 256 / 2 + 2 * 256 * (2 + 0.5) + 4 * 256
    down = 256 * 512 / 2 + 4 * 256 * (2 + 0.5) + 4 * 512
    ends = 2 * (2 * 256_000 + 256)

    assert result_bytes(Model.read(folder), GptqFormat()) == q + down + ends


def test_gguf_is_the_bits_of_its_type(folder: Path) -> None:
    layers, norm = 256 * 256 + 256 * 512, 4 * 256 + 24 * 1000  # and the vocabulary
    model = Model.read(folder)

    assert result_bytes(model, GgufFormat(type="F16")) == 2 * (layers + 512_000) + norm
    mixed = (4.76 * layers + 4.5 * 256_000 + 6.5625 * 256_000) / 8 + norm
    assert result_bytes(model, GgufFormat(type="Q4_K_M")) == pytest.approx(mixed)


def test_tied_embeddings_are_kept_as_the_output_layer_is(tmp_path: Path) -> None:
    tied = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
    model = Model.read(write_model(tmp_path / "tied", tied))

    layers, norm = 256 * 256 + 256 * 512, 4 * 256 + 24 * 1000  # and the vocabulary
    mixed = (4.76 * layers + 6.5625 * 256_000) / 8 + norm
    assert result_bytes(model, GgufFormat(type="Q4_K_M")) == pytest.approx(mixed)


def test_every_type_has_its_bits() -> None:
    assert GGUF_BITS.keys() == QUANTIZATION_TYPES.keys()


def test_the_matrix_is_measured_once_and_f16_is_written_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "measure", lambda _: MACHINE)
    model = Model.read(folder)
    four, three = GgufFormat(type="Q4_K_M"), GgufFormat(type="Q3_K_M")

    first, second = estimate(model, (four, three), tokens=1_000_000)

    assert first.seconds - second.seconds == pytest.approx(2 * 196_608 * 1e6 / 1e9)
    assert scratch_bytes(model, (four, three), 0) == 2 * count_parameters(folder)
    assert scratch_bytes(model, (four, GptqFormat()), 0) > scratch_bytes(model, (four, three), 0)


def test_the_table_has_a_line_a_format_and_one_for_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "measure", lambda _: MACHINE)
    config = QuantizeConfig(formats=(GptqFormat(), GgufFormat(type="Q8_0")))

    lines = render_estimate(folder, config, 5000)

    assert "5,000 calibration tokens" in lines[0]
    assert [line.split()[0] for line in lines[2:-1]] == ["gptq-4bit", "gguf-q8_0", "all"]


def test_tokens_are_told_by_the_size_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "calibration.jsonl").write_text("x" * 4000)

    assert count_tokens(tmp_path) == 1000
    assert count_tokens(tmp_path / "nowhere") == count_tokens(None) == 0


def test_a_control_group_limits_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = free_memory_gib("cpu")
    (tmp_path / "memory.max").write_text(f"{2**26}\n")
    (tmp_path / "memory.current").write_text(f"{2**25}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**24}\n")
    monkeypatch.setattr("medllm.models.hardware.CGROUPS", tmp_path)

    assert before > 48 / 1024
    assert free_memory_gib("cpu") == 48 / 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory_gib("cpu") > 48 / 1024


@pytest.mark.parametrize(
    ("embedding", "layer"),
    [("transformer.wte", "transformer.h.0.attn"), ("wte", "h.0.mlp"), ("wte", "blocks.1.attn")],
)
def test_layers_and_embeddings_are_known_by_other_names(embedding: str, layer: str) -> None:
    shapes = {
        "transformer.wpe.weight": (64, 256),  # of positions: no part of the vocabulary
        f"{embedding}.weight": (1000, 256),
        f"{layer}.c_proj.weight": (256, 512),
    }
    model = Model(shapes)

    assert model.layer_weights == 256 * 512
    assert (model.ends, embeddings_of(model)) == ({f"{embedding}.weight": 256_000}, (1000, 256))
