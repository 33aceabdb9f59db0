"""Which number format a GPU computes in, where nobody says."""

from types import SimpleNamespace

import pytest
import torch

from medllm.models.hardware import pick_dtype


@pytest.mark.parametrize(("major", "dtype"), [(7, "float16"), (8, "bfloat16"), (9, "bfloat16")])
def test_bfloat16_is_taken_where_the_gpu_has_it_and_not_where_torch_emulates_it(
    major: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(major=major)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)

    assert pick_dtype("auto", "cuda") == dtype
