"""Every format is made on a GPU, and computes there what a processor computes with its files."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from arms import Device, LogProbs, Road, distance, expected_on_cpu, expected_on_device

from medllm.errors import SetupError
from medllm.quantize.config import (
    AwqFormat,
    BnbFormat,
    Format,
    Fp8Format,
    GgufFormat,
    GptqFormat,
    QuantizeConfig,
    W8a8Format,
)
from medllm.quantize.verb import quantize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
    ),
]
CASES: dict[str, tuple[Format, str, float]] = {
    "gptq": (GptqFormat(), "gptqmodel", 0.15),
    "gptq-mixed": (GptqFormat(dynamic={"+:.*down_proj": {"bits": 8}}), "gptqmodel", 0.15),
    "awq": (AwqFormat(), "gptqmodel", 0.15),
    "nf4": (BnbFormat(), "bitsandbytes", 0.15),
    "int8": (BnbFormat(type="int8"), "bitsandbytes", 0.05),
    "fp8": (Fp8Format(), "llmcompressor", 0.08),
    "w8a8": (W8a8Format(), "llmcompressor", 0.05),
    "gguf": (GgufFormat(type="Q4_K_M"), "llama_cpp", 0.15),
}
"""What is asked, the package that makes it, and how far from its parent it may be. A processor
that computes in bfloat16 measured 0.03 to 0.06 with 4 bits, 0.03 with FP8 and 0.01 with int8."""
ROUNDED = 0.03
"""Between a GPU, which computes in 16 bits, and a processor in 32, with the same files: such a
processor measured up to 0.010."""
ROUNDED_FP8 = 0.06
"""There 0.021: activations are rounded, too, and what differs a little falls on another step."""


@pytest.fixture(scope="module")
def parent(road: Road) -> LogProbs:
    """What the model that is quantized expects."""
    return expected_on_cpu(road.device / "merge")


@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_a_processor_computes_with_it(
    case: str, device: Device, road: Road, parent: LogProbs, tmp_path: Path
) -> None:
    choice, package, loses = CASES[case]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    folder = make(choice, device, road, tmp_path)

    found = expected_on_device(folder, device.dtype)

    assert 0 < distance(found, parent) < loses
    if case != "gguf":  # llama.cpp computes on the processor as it is
        limit = ROUNDED_FP8 if case == "fp8" else ROUNDED
        assert distance(found, expected_on_cpu(folder)) < limit


def make(choice: Format, device: Device, road: Road, room: Path) -> Path:
    """The folder of the quantized model."""
    config = QuantizeConfig(
        model=str(road.device / "merge"),
        calibration=road.device / "calibrate",
        formats=(choice,),
        output=room / "quantize",
        quality=False,
        dtype=device.dtype,
    )
    try:
        quantize(config)
    except SetupError as problem:  # llama.cpp's converter
        pytest.skip(f"{problem.message}: {problem.fix}")
    (folder,) = (path.parent for path in (room / "quantize").glob("*/medllm.json"))
    return folder
