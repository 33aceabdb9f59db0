"""Two arms: the device, which is a CUDA GPU, and the processor, which says what is right.

Without a GPU these tests are skipped. `pytest tests/gpu --smoke` lets the processor stand in for
it, computing in bfloat16, which is what a GPU changes first: so the tests themselves are tested.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from arms import Device, Road, on_cpu, walk, write_recipe


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--smoke", action="store_true", help="the processor stands in for the GPU, in bfloat16"
    )


@pytest.fixture(scope="session", autouse=True)
def device(request: pytest.FixtureRequest) -> Device:
    """What is tested."""
    import torch

    gc.collect()
    gc.freeze()  # no collection of garbage looks through the libraries again
    if torch.cuda.is_available():
        return Device("cuda", "auto")
    if request.config.getoption("smoke", default=False):
        return Device("cpu", "bfloat16")
    pytest.skip("torch sees no CUDA GPU (`pytest tests/gpu --smoke` lets the processor stand in)")


@pytest.fixture(scope="session")
def tiny_model(device: Device) -> Path:
    """The built-in tiny model."""
    from medllm.models.tiny.base import tiny_base

    return tiny_base()


@pytest.fixture(scope="session")
def road(
    device: Device, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    """The same recipe, walked by both arms at once."""
    home = tmp_path_factory.mktemp("road")
    with on_cpu(write_recipe(home, "cpu", "float32")) as wait:
        walk(write_recipe(home, "device", device.dtype))
        wait()
    return Road(home / "device", home / "cpu")
