"""Which errors mean that memory was too small."""

import pytest

from medllm.errors import SetupError
from medllm.models.memory import within_memory


@pytest.mark.parametrize(
    ("problem", "where"),
    [
        (MemoryError(), "this machine"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "this machine"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "the GPU"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "the GPU"),
    ],
)
def test_they_become_one_with_a_remedy(problem: Exception, where: str) -> None:
    with (
        pytest.raises(SetupError, match=f"evaluate: {where} has too little memory") as caught,
        within_memory("evaluate", "lower n_ctx"),
    ):
        raise problem

    assert caught.value.fix == "lower n_ctx"


def test_others_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), within_memory("evaluate", "lower it"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    "said",
    [
        "uncorrectable ECC error encountered",
        "CUDA-capable device(s) is/are busy or unavailable",
        "unspecified launch failure",
        "no kernel image is available for execution on the device",
    ],
)
def test_a_gpu_that_fails_is_told_in_one_line(said: str) -> None:
    text = f"CUDA error: {said}\nCUDA kernel errors might be asynchronously reported"
    with pytest.raises(SetupError) as caught, within_memory("evaluate", "lower n_ctx"):
        raise RuntimeError(text)

    assert caught.value.message == f"evaluate: the GPU fails: {said}"
    assert "dmesg" in caught.value.fix


def test_a_mistake_of_the_code_on_a_gpu_keeps_its_traceback() -> None:
    text = "CUDA error: device-side assert triggered"
    with pytest.raises(RuntimeError, match=text), within_memory("evaluate", "lower it"):
        raise RuntimeError(text)
