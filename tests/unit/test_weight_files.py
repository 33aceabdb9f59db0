"""Which files are a model's weights."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from medllm.models.hardware import count_parameters
from medllm.models.weights import weight_files


@pytest.mark.parametrize(
    "twice", ["consolidated.safetensors", "consolidated-00001-of-00001.safetensors"]
)
def test_mistrals_own_form_of_the_weights_is_no_second_model(tmp_path: Path, twice: str) -> None:
    save_file({"a": np.zeros((3, 4), np.float32)}, tmp_path / "model.safetensors")
    save_file({"b": np.zeros((3, 4), np.float32)}, tmp_path / twice)

    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    assert count_parameters(tmp_path) == 12
