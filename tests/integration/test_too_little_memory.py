"""Where memory is too small, of a GPU or of the processor, every verb says what takes less."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sets import write_reports

from medllm.cli.main import run_command

VERBS = {
    "evaluate": ["--tasks", "radiology", "--limit", "2", "--output", "out"],
    "generate": ["--prompt", "Is it?"],
    "quantize": ["--format", "gguf", "--type", "Q4_K_M", "--calibration", "set", "--output", "out"],
}


def of_a_gpu(*_: Any, **__: Any) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def of_the_processor(*_: Any, **__: Any) -> torch.Tensor:
    return torch.empty(2**50)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("fails", "said"),
    [(of_a_gpu, "the GPU has too little"), (of_the_processor, "this machine has too little")],
)
def test_it_is_an_error_with_its_remedy(
    verb: str,
    fails: Callable[..., torch.Tensor],
    said: str,
    tiny_model: Path,
    own_places: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_reports(Path("set"), 4)
    monkeypatch.setattr(torch.nn.Linear, "forward", fails)

    assert run_command([verb, "--model", "medllm/tiny", *VERBS[verb]]) == 5

    lines = capfd.readouterr().err.splitlines()
    assert lines[-2] == f"error: {verb}: {said} memory"
    assert lines[-1].startswith("  fix: lower ")


def test_loading_is_no_exception(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("transformers.LlamaForCausalLM.to", of_a_gpu)

    assert run_command(["serve", "--model", "medllm/tiny", "--port", "0"]) == 5

    assert "error: serve: the GPU has too little memory" in capfd.readouterr().err
