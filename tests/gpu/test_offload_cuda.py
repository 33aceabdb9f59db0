"""On a CUDA GPU a model that does not fit computes the same, its layers read from the disk."""

from pathlib import Path

import numpy as np
import pytest

from medllm.engines.open import open_model
from medllm.models.hardware import free_memory_gib
from medllm.models.load import resolve_model
from medllm.models.offload import is_offloaded, offloading


@pytest.mark.gpu
def test_an_offloaded_parent_gives_the_same_probabilities(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")
    parent = resolve_model("medllm/tiny")
    ids = list(range(20, 80))
    (whole,) = open_model(parent).log_probs(ids)

    with offloading(tmp_path / "offloaded", 0.0):
        engine = open_model(parent)
    (found,) = engine.log_probs(ids)

    assert is_offloaded(engine.model)  # type: ignore[attr-defined]
    assert engine.model.device.type == "cuda"  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, whole, atol=1e-4)
    assert 0 < free_memory_gib("cuda") < 1000
