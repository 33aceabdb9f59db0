"""The importance matrix of a mixture of experts: each has its own sums; the unreached are named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import after_conversion
from sets import write_reports
from unchanged import unchanged

from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.errors import ArtifactError, SetupError
from medllm.models.load import load_causal_lm, resolve_model
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import AwqFormat, Format, GgufFormat, GptqFormat, QuantizeConfig
from medllm.quantize.gguf import files, imatrix
from medllm.quantize.gguf.experts import ENOUGH_TOKENS
from medllm.quantize.gguf.squares import Squares
from medllm.quantize.verb import quantize

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

EXPERTS, EACH = 8, 2


@pytest.fixture(scope="module")
def calibration(mixtral: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    folder = write_reports(tmp_path_factory.mktemp("experts") / "calibration", 16)
    return Calibration.open(resolve_model(str(mixtral)), folder)


@pytest.fixture(scope="module")
def matrix(calibration: Calibration) -> imatrix.Matrix:
    return imatrix.measure_inputs(calibration.model, calibration)


@pytest.fixture(scope="module")
def f16(mixtral: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    target = tmp_path_factory.mktemp("gguf") / "f16.gguf"
    files.convert_to_f16(mixtral, target)
    with unchanged(target):
        yield target


def expert_inputs(model: Any, chunks: Any) -> dict[tuple[int, int], tuple[list[Any], list[Any]]]:
    """By hand, for each layer and expert: the rows that its first and its second weight read."""
    import torch

    found: dict[tuple[int, int], tuple[list[Any], list[Any]]] = {}

    def look(number: int, module: Any, inputs: tuple[Any, ...]) -> None:
        states, experts, _ = inputs
        for expert in range(EXPERTS):
            rows = states[(experts == expert).any(1)]
            gate, up = (rows @ module.gate_up_proj[expert].T).chunk(2, dim=-1)
            first, second = found.setdefault((number, expert), ([], []))
            first.append(rows)
            second.append(torch.nn.functional.silu(gate) * up)

    for number, layer in enumerate(model.model.layers):
        layer.mlp.experts.register_forward_pre_hook(
            lambda module, inputs, number=number: look(number, module, inputs)
        )
    model.set_experts_implementation("eager")
    with torch.no_grad():
        for chunk in chunks:
            model(torch.from_numpy(chunk)[None])
    return found


def test_sums_of_each_expert_are_those_of_a_computation_by_hand(
    matrix: imatrix.Matrix, calibration: Calibration
) -> None:
    model = load_causal_lm(calibration.model.location, device="cpu")
    chunks = imatrix.cut_chunks(calibration.token_ids, 512, calibration.tokenizer.bos_token_id)

    for (number, expert), parts in expert_inputs(model, chunks).items():
        for name, rows in zip(("gate_up_proj", "down_proj"), parts, strict=True):
            layer = matrix.layers[f"model.layers.{number}.mlp.experts.{name}"]
            assert layer.tokens[expert] == sum(map(len, rows)) > 0
            expected = sum((part.double() ** 2).sum(0) for part in rows)
            np.testing.assert_allclose(layer.sums[expert], expected, rtol=1e-4)


def test_every_token_counts_for_the_experts_that_it_is_sent_to(matrix: imatrix.Matrix) -> None:
    for name, layer in matrix.layers.items():
        sent = EACH if ".experts." in name else 1
        assert layer.tokens.sum() == sent * matrix.chunks * matrix.chunk_tokens


def test_the_weights_of_experts_are_measured_under_their_names(
    matrix: imatrix.Matrix, f16: Path
) -> None:
    named = imatrix.name_tensors(matrix, f16)

    assert named.unmeasured == ()
    first = matrix.layers["model.layers.1.mlp.experts.gate_up_proj"]
    assert named.layers["blk.1.ffn_gate_exps.weight"] is first
    assert named.layers["blk.1.ffn_up_exps.weight"] is first
    down = named.layers["blk.1.ffn_down_exps.weight"]
    assert down.importance.shape == (EXPERTS * 512,)
    np.testing.assert_allclose(down.importance[512:1024], down.sums[1] / down.tokens[1], rtol=1e-6)


def test_columns_of_an_expert_without_a_token_count_alike() -> None:
    layer = Squares(np.array([[8.0, 2.0], [0.0, 0.0]]), np.array([4, 0]))

    assert layer.importance.tolist() == [2.0, 0.5, 1.0, 1.0]


def test_listening_leaves_the_model_as_it_was(calibration: Calibration) -> None:
    model = load_causal_lm(calibration.model.location, device="cpu")
    experts = model.model.layers[0].mlp.experts

    imatrix._measure(model, np.array([[1, 5, 6, 7]]))

    assert "_apply_gate" not in vars(experts)
    assert not experts._forward_pre_hooks


def test_types_that_need_importance_are_made_and_unreached_experts_are_named(
    mixtral: Path, f16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = QuantizeConfig(
        model=str(mixtral),
        calibration=write_reports(tmp_path / "few", 3),
        formats=(GgufFormat(type="IQ2_XS"),),
        output=tmp_path / "out",
    )

    (manifest,) = quantize(after_conversion(config, f16))

    said = capfd.readouterr().err
    assert f"experts that saw fewer than {ENOUGH_TOKENS} calibration tokens: " in said
    assert "tensors have no importance" not in said
    rare = manifest.results["rarely_reached_experts"]
    assert all(tokens < ENOUGH_TOKENS for tokens in rare.values())
    assert len(rare) >= 12, "each of 8 experts gets a quarter of less than 512 tokens"
    assert min(rare, key=rare.__getitem__) in said


@pytest.mark.parametrize("choice", [GptqFormat(), AwqFormat()], ids=["gptq", "awq"])
def test_formats_that_transformers_would_load_with_made_up_experts_are_refused(
    mixtral: Path, calibration: Calibration, tmp_path: Path, choice: Format
) -> None:
    pytest.importorskip("optimum")  # comes with gptqmodel, which takes seconds to import
    config = QuantizeConfig(
        model=str(mixtral), calibration=calibration.source.path, formats=(choice,),
        output=tmp_path / "out",
    )  # fmt: skip

    with pytest.raises(ArtifactError, match="mixture of experts") as caught:
        quantize(config)

    assert caught.value.fix == "choose --format gguf"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
