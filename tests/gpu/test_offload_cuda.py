"""On a CUDA GPU a model that does not fit computes the same, its layers read from the disk."""

from pathlib import Path

import numpy as np
import pytest
from arms import Device

from medllm.engines.open import open_model
from medllm.models.hardware import free_memory_gib
from medllm.models.load import resolve_model
from medllm.models.offload import is_offloaded, offloading

pytestmark = pytest.mark.gpu


def test_an_offloaded_parent_gives_the_same_probabilities(device: Device, tmp_path: Path) -> None:
    parent = resolve_model("medllm/tiny")
    ids = list(range(20, 80))
    (whole,) = open_model(parent, dtype=device.dtype).log_probs(ids)  # type: ignore[attr-defined]

    with offloading(tmp_path / "offloaded", 0.0):
        engine = open_model(parent, dtype=device.dtype)
    (found,) = engine.log_probs(ids)  # type: ignore[attr-defined]

    assert is_offloaded(engine.model)  # type: ignore[attr-defined]
    assert engine.model.device.type == device.name  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, whole, atol=1e-4)
    assert 0 < free_memory_gib(device.name) < 1000
