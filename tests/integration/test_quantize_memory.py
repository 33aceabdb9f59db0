"""Memory follows one layer: a model that does not fit computes the same from the disk."""

from pathlib import Path

import numpy as np
import pytest
from sets import write_reports

from medllm.engines.open import open_model
from medllm.errors import SetupError
from medllm.models.load import load_causal_lm, resolve_model
from medllm.models.offload import is_offloaded, offloading
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import GgufFormat, GptqFormat, QuantizeConfig
from medllm.quantize.estimate import check_disk
from medllm.quantize.gguf.imatrix import Matrix
from medllm.quantize.work import open_work

TOO_SMALL = 0.0


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reports(tmp_path_factory.mktemp("memory") / "calibration", 64)


def measure(tiny_model: Path, calibration: Path, output: Path, most: float | None) -> Matrix:
    model = resolve_model(str(tiny_model))
    config = QuantizeConfig(model=str(tiny_model), output=output, max_memory_gib=most)
    with open_work(model, Calibration.open(model, calibration), config) as work:
        return work.matrix


def weights_gib(folder: Path) -> float:
    """In float32."""
    with offloading(folder):
        return sum(each.numel() for each in load_causal_lm(str(folder)).parameters()) * 4 / 2**30


def test_the_matrix_of_an_offloaded_model_is_that_of_the_whole(
    tiny_model: Path, calibration: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = measure(tiny_model, calibration, tmp_path / "whole", None)
    assert "do not fit" not in capfd.readouterr().err

    found = measure(tiny_model, calibration, tmp_path / "offloaded", TOO_SMALL)

    assert "each layer is read from the disk" in capfd.readouterr().err
    assert found.layers.keys() == whole.layers.keys()
    for name, layer in whole.layers.items():
        assert np.all(found.layers[name].tokens == layer.tokens)
        np.testing.assert_allclose(found.layers[name].sums, layer.sums, rtol=1e-5, err_msg=name)


def test_bfloat16_is_computed_in_where_only_that_fits_and_it_is_said(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with offloading(tmp_path, 0.7 * weights_gib(tiny_model)):
        model = load_causal_lm(str(tiny_model), device="cpu")

    assert str(model.dtype) == "torch.bfloat16"
    assert not is_offloaded(model)
    assert "computing in bfloat16, which is less exact" in capfd.readouterr().err


def test_an_offloaded_parent_gives_the_same_probabilities(tiny_model: Path, tmp_path: Path) -> None:
    parent = resolve_model(str(tiny_model))
    ids = list(range(20, 80))
    (whole,) = open_model(parent).log_probs(ids)

    with offloading(tmp_path / "offloaded", TOO_SMALL):
        engine = open_model(parent)
    (found,) = engine.log_probs(ids)

    assert is_offloaded(engine.model)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, whole, atol=1e-4)
    kept = tmp_path / "offloaded"
    assert not any(kept.glob("*")), "it is read from the model's own files"


def test_outside_of_quantizing_models_load_whole(tiny_model: Path, tmp_path: Path) -> None:
    with offloading(tmp_path, TOO_SMALL):
        pass

    assert not is_offloaded(load_causal_lm(str(tiny_model)))


def test_a_full_disk_is_told_before_anything_slow(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = (GptqFormat(), GgufFormat())
    config = QuantizeConfig(formats=formats, output=tmp_path / "a/b")
    check_disk(tiny_model, config)

    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    with pytest.raises(SetupError, match=r"needs about 0\.\d+ GiB .* has 0\.00098 GiB free"):
        check_disk(tiny_model, config)

    for choice in formats:
        (tmp_path / "a/b" / choice.folder).mkdir(parents=True)
    check_disk(tiny_model, config)
