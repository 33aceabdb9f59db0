"""The importance matrix of GGUF: its sums, its file, what it does to weights, its terms."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from converted import after_conversion

from medllm.artifacts.manifest import Manifest
from medllm.cli.main import run_command
from medllm.data.generators import radiology
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.errors import ArtifactError, ConfigError, SetupError
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import GgufFormat, QuantizeConfig
from medllm.quantize.gguf import files, imatrix
from medllm.quantize.gguf.types import NEEDS_IMPORTANCE
from medllm.quantize.verb import check_ahead, quantize

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

READ = """
import sys, gguf, numpy
reader = gguf.GGUFReader(sys.argv[1])
numpy.savez(sys.argv[2], **{
    tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors
})
"""
DESCRIBE = """
import sys, gguf, json
fields = gguf.GGUFReader(sys.argv[1]).fields
print(json.dumps({name: field.contents() for name, field in fields.items() if "GGUF." not in name}))
"""


def with_gguf_py(script: str, *arguments: Path) -> str:
    """What a script prints that imports llama.cpp's own gguf package."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(converter_script().parent / "gguf-py")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a GGUF file as floats."""
    arrays = path.with_suffix(".npz")
    with_gguf_py(READ, path, arrays)
    with np.load(arrays) as found:
        tensors = dict(found)
    arrays.unlink()
    return tensors


def write_calibration(folder: Path, tokens_off: int = 0) -> Path:
    """Reports like those that the tiny model was trained on."""
    from medllm.models.tiny.base import tiny_base

    tokenizer = load_tokenizer(str(tiny_base()))
    texts = [radiology.build_report(Random(f"i-{n}")).text for n in range(24)]
    rows = []
    for number, text in enumerate(texts):
        tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"]) + tokens_off
        rows.append({"id": f"r/{number}", "text": text, "tokens": tokens})
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "calibration.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def calibration(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calibration(tmp_path_factory.mktemp("imatrix") / "calibration")


@pytest.fixture(scope="module")
def matrix(tiny_model: Path, calibration: Path) -> imatrix.Matrix:
    model = resolve_model(str(tiny_model))
    return imatrix.measure_inputs(model, Calibration.open(model, calibration))


@pytest.fixture(scope="module")
def named(matrix: imatrix.Matrix, tiny_f16: Path) -> imatrix.Matrix:
    return imatrix.name_tensors(matrix, tiny_f16)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, calibration: Path) -> dict[str, Any]:
    """By hand: what each linear layer is given, for all chunks (tokens, columns)."""
    import torch

    tokenizer = load_tokenizer(str(tiny_model))
    ids: list[int] = []
    for line in (calibration / "calibration.jsonl").read_text(encoding="utf-8").splitlines():
        ids += tokenizer(json.loads(line)["text"])["input_ids"]
    model = load_causal_lm(str(tiny_model), device="cpu")
    seen: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda _, given, __, name=name: seen.setdefault(name, []).append(given[0][0])
            )
    with torch.no_grad():
        for start in range(0, len(ids) - 511, 512):
            model(torch.tensor([[tokenizer.bos_token_id, *ids[start + 1 : start + 512]]]))
    return {name: torch.cat(parts).double().numpy() for name, parts in seen.items()}


# The sums


def test_chunks_are_cut_as_llama_imatrix_does() -> None:
    rows = [[1, 5, 6], [1, 7, 8, 9], [1, 2]]

    assert imatrix.cut_chunks(rows, 4, bos=1).tolist() == [[1, 5, 6, 1], [1, 8, 9, 1]]
    assert imatrix.cut_chunks(rows, 4, bos=None).tolist() == [[1, 5, 6, 1], [7, 8, 9, 1]]
    assert imatrix.cut_chunks(rows, 512, bos=3).tolist() == [[3, 5, 6, 1, 7, 8, 9, 1, 2]]


def test_sums_are_those_of_a_computation_by_hand(
    matrix: imatrix.Matrix, inputs: dict[str, Any]
) -> None:
    assert matrix.layers.keys() == inputs.keys() - {"lm_head"}
    for name, layer in matrix.layers.items():
        assert layer.tokens == len(inputs[name]) == matrix.chunks * 512
        expected = (inputs[name] ** 2).sum(0)
        np.testing.assert_allclose(layer.sums, [expected], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpus_way_of_summing_gives_the_same_sums(dtype: str) -> None:
    import torch

    torch.manual_seed(0)
    inputs = (torch.randn(8192, 96) * torch.logspace(-3, 3, 96)).to(getattr(torch, dtype))
    exact = inputs.double().square().sum(0)

    for found in (imatrix.sum_in_one_pass(inputs), inputs.float().square().sum(0)):
        np.testing.assert_allclose(found, exact, rtol=2e-5)


def test_every_matrix_of_the_file_is_measured(named: imatrix.Matrix, tiny_f16: Path) -> None:
    tensors = files.read_tensors(tiny_f16)

    blocks = [t.name for t in tensors if t.name.startswith("blk.") and t.type == "f16"]
    assert sorted(blocks) == list(named.layers)
    assert named.unmeasured == ()
    assert "gguf" not in sys.modules, "the converter's package goes by another name"


def test_layers_are_named_as_the_converter_names_them(
    named: imatrix.Matrix, matrix: imatrix.Matrix
) -> None:
    pairs = {
        "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj",
        "blk.1.attn_output.weight": "model.layers.1.self_attn.o_proj",
        "blk.2.ffn_gate.weight": "model.layers.2.mlp.gate_proj",
        "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj",
    }
    for tensor, layer in pairs.items():
        assert named.layers[tensor] is matrix.layers[layer]


# The file


def test_the_file_is_a_standard_one(named: imatrix.Matrix, tmp_path: Path) -> None:
    target = tmp_path / "imatrix.gguf"

    imatrix.write_imatrix(named, target)

    said = json.loads(with_gguf_py(DESCRIBE, target))
    assert said["general.type"] == "imatrix"
    assert said["imatrix.datasets"] == ["calibration.jsonl"]
    assert (said["imatrix.chunk_count"], said["imatrix.chunk_size"]) == (named.chunks, 512)
    assert "general.architecture" not in said
    tensors = read_tensors(target)
    assert len(tensors) == 2 * len(named.layers)
    for name, layer in named.layers.items():
        np.testing.assert_allclose(tensors[f"{name}.in_sum2"], layer.sums, rtol=1e-6)
        assert tensors[f"{name}.counts"].tolist() == [[layer.tokens]]
    assert {tensor.name for tensor in files.read_tensors(target)} == tensors.keys()


# What it does


def test_three_bits_lose_less_of_what_calibration_text_drives(
    named: imatrix.Matrix,
    matrix: imatrix.Matrix,
    inputs: dict[str, Any],
    tiny_f16: Path,
    tmp_path: Path,
) -> None:
    plain, weighted = tmp_path / "plain.gguf", tmp_path / "weighted.gguf"
    files.quantize_file(tiny_f16, plain, "Q3_K_S")
    files.quantize_file(tiny_f16, weighted, "Q3_K_S", **named.parameters)

    layer_of = {id(layer): name for name, layer in matrix.layers.items()}
    exact = read_tensors(tiny_f16)

    def output_error(path: Path) -> float:
        """The squared error of all layers' outputs, each relative to the output."""
        found, total = read_tensors(path), 0.0
        for name, layer in named.layers.items():
            given = inputs[layer_of[id(layer)]]
            lost = given @ (found[name] - exact[name]).T
            total += (lost**2).sum() / ((given @ exact[name].T) ** 2).sum()
        return total

    assert output_error(weighted) < 0.95 * output_error(plain)


def test_the_file_says_what_it_was_made_with(
    named: imatrix.Matrix, tiny_f16: Path, tmp_path: Path
) -> None:
    files.quantize_file(tiny_f16, tmp_path / "q.gguf", "IQ2_XS", **named.parameters)

    said = json.loads(with_gguf_py(DESCRIBE, tmp_path / "q.gguf"))
    assert said["quantize.imatrix.file"] == "imatrix.gguf"
    assert said["quantize.imatrix.dataset"] == "calibration.jsonl"
    assert said["quantize.imatrix.entries_count"] == len(named.layers) == 28
    assert said["quantize.imatrix.chunks_count"] == named.chunks


def test_types_that_need_it_are_those_that_llama_cpp_refuses_without(
    tiny_f16: Path, tmp_path: Path
) -> None:
    for name in NEEDS_IMPORTANCE:
        with pytest.raises(ArtifactError):
            files.quantize_file(tiny_f16, tmp_path / "q.gguf", name)
    for name in ("IQ3_M", "Q2_K"):
        files.quantize_file(tiny_f16, tmp_path / "q.gguf", name)


# The verb


def test_one_pass_serves_all_types(
    tiny_model: Path,
    tiny_f16: Path,
    calibration: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=calibration,
        formats=tuple(GgufFormat(type=name) for name in ("Q4_K_M", "IQ2_S", "Q8_0")),
        output=tmp_path / "out",
    )

    four, two, eight = quantize(after_conversion(config, tiny_f16))

    said = capfd.readouterr().err
    assert said.count("calibration tokens are few") == 1
    assert "without an importance matrix" not in said
    for manifest in (four, two):
        assert [parent.kind for parent in manifest.parents] == ["foreign", "foreign"]
        assert manifest.results["importance_matrix"] == "imatrix.gguf"
        assert manifest.counts.examples == 24
        assert manifest.results["tokens"] == 512 * manifest.results["chunks"] > 0
    assert len(eight.parents) == 1
    assert eight.results["importance_matrix"] == "none"
    folder = tmp_path / "out/gguf-q4_k_m"
    assert {file.name for file in folder.glob("*.gguf")} == {"imatrix.gguf", "model-Q4_K_M.gguf"}
    assert resolve_model(str(folder)).path.name == "model-Q4_K_M.gguf"
    assert "- texts: calibration.jsonl" in (folder / "README.md").read_text(encoding="utf-8")


def test_without_a_calibration_set_it_is_said(
    tiny_model: Path, tiny_f16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = (GgufFormat(type="Q4_0"),)
    config = QuantizeConfig(model=str(tiny_model), formats=one, output=tmp_path / "out")

    (manifest,) = quantize(after_conversion(config, tiny_f16))

    assert "GGUF Q4_0, without an importance matrix" in capfd.readouterr().err
    assert manifest.results["importance_matrix"] == "none"
    assert not (tmp_path / "out/gguf-q4_0/imatrix.gguf").exists()


def test_a_type_that_needs_one_is_refused_without() -> None:
    with pytest.raises(ConfigError, match="gguf-iq2_xs calibrates") as caught:
        check_ahead(QuantizeConfig(formats=(GgufFormat(type="IQ2_XS"),)))
    assert "--calibration DIR" in caught.value.fix


def test_a_calibration_set_for_another_tokenizer_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    other = write_calibration(tmp_path / "other", tokens_off=30)
    model = resolve_model(str(tiny_model))

    with pytest.raises(ArtifactError, match="another tokenizer"):
        imatrix.measure_inputs(model, Calibration.open(model, other))


def test_it_is_refused_before_any_format_is_made(tiny_model: Path, tmp_path: Path) -> None:
    other = write_calibration(tmp_path / "other", tokens_off=30)
    formats = tuple(GgufFormat(type=name) for name in ("Q8_0", "Q4_K_M"))
    config = QuantizeConfig(
        model=str(tiny_model), formats=formats, calibration=other, output=tmp_path / "out"
    )

    with pytest.raises(ArtifactError, match="another tokenizer"):
        quantize(config)

    assert not (tmp_path / "out").exists()


def test_a_model_with_fewer_tokens_than_its_tokenizer_gives_is_refused(
    tiny_model: Path, calibration: Path, tmp_path: Path
) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    few = json.loads((tiny_model / "config.json").read_text()) | {"vocab_size": 64}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(few))

    with pytest.raises(ArtifactError, match="and the model has 64"):
        len(Calibration.open(resolve_model(str(tmp_path)), calibration).token_ids)


@pytest.mark.usefixtures("converter")
def test_terms_of_the_calibration_set_follow(
    tmp_path: Path, own_places: Path, tiny_model: Path
) -> None:
    ward = tmp_path / "datasets/ward"
    ward.mkdir(parents=True)
    words = radiology.build_report(Random(1)).text.split()
    rows = (
        {"id": n, "question": " ".join(Random(n).choices(words, k=40)), "answer": f"answer {n}"}
        for n in range(60)
    )
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (ward / "ward.jsonl").write_text(lines, encoding="utf-8")
    (ward / "dataset.yaml").write_text("title: Ward\nshape: local\n")
    mix = "{mix: {shares: {ward: 1}}, samples: 8, holdout_samples: 0, min_tokens: 8}"
    formats = "[{format: gguf, type: Q3_K_M}, {format: gguf, type: F16}]"
    recipe = (
        f"name: terms\nmodel: medllm/tiny\ncalibrate: {mix}\nquantize: {{formats: {formats}}}\n"
    )
    (own_places / "terms.yaml").write_text(recipe, encoding="utf-8")

    assert run_command(["run", "--config", "terms.yaml"]) == 0

    runs = own_places / "runs/terms"
    made = Manifest.read(runs / "quantize/gguf-q3_k_m")
    assert made.access == "private"
    assert [term.dataset for term in made.data_terms] == ["ward"]
    calibration = Manifest.read(runs / "calibrate").identity
    assert calibration in {parent.identity for parent in made.parents}
    card = (runs / "quantize/gguf-q3_k_m/README.md").read_text(encoding="utf-8")
    assert "- texts: 8 ward" in card
    assert "No: this contains data of your own" in card
    assert Manifest.read(runs / "quantize/gguf-f16").data_terms == ()
