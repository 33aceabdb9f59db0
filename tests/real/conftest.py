"""What is made of the real model once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_med_f16(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model that was trained on medical text as a GGUF file of 16-bit floats."""
    from medllm.quantize.gguf.files import convert_to_f16

    target = tmp_path_factory.mktemp("gguf") / "tiny-med-f16.gguf"
    convert_to_f16(shared / "models/tiny-med", target)
    return target
