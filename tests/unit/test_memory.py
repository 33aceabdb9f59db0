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
