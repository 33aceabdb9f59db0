"""What is decided of a machine's GPUs, from facts that need no GPU."""

from dataclasses import replace

import pytest

from medllm.checkup import gpu_rows
from medllm.errors import SetupError
from medllm.models.gpu import (
    Card,
    Facts,
    add_driver,
    check_usable,
    find_freer,
    find_unused,
    has_code,
    what_is_wrong,
)

H100 = Card("NVIDIA H100", (9, 0), 79.2, "aa-1")
T4 = Card("Tesla T4", (7, 5), 14.6, "bb-2")
K80 = Card("Tesla K80", (3, 7), 11.2)
BUILT = ("sm_75", "sm_80", "sm_90", "compute_90")
SEEN = Facts("2.11.0+cu130", "13.0", BUILT, (H100,), driver="580.65", installed=("NVIDIA H100",))
UNSEEN = replace(SEEN, cards=())


@pytest.mark.parametrize(
    ("capability", "architectures", "found"),
    [
        ((9, 0), BUILT, True),
        ((8, 9), BUILT, True),  # code of its major version
        ((12, 0), BUILT, True),  # made of the PTX
        ((12, 0), ("sm_80", "sm_90"), False),  # newer than all there is
        ((7, 0), BUILT, False),
        ((3, 7), BUILT, False),
        ((9, 0), ("sm_90a",), True),
        ((9, 0), (), True),  # nothing is known
    ],
)
def test_a_gpu_runs_code_of_its_major_version_or_made_of_ptx(
    capability: tuple[int, int], architectures: tuple[str, ...], found: bool
) -> None:
    assert has_code(capability, architectures) is found


def test_a_gpu_that_pytorch_has_no_code_for_is_refused() -> None:
    check_usable(SEEN)
    check_usable(UNSEEN)

    with pytest.raises(SetupError) as caught:
        check_usable(replace(SEEN, cards=(K80, H100)))

    assert caught.value.message == (
        "PyTorch 2.11.0+cu130 has no code for the Tesla K80 (compute capability 3.7; it has code "
        "for 75, 80, 90)"
    )
    assert 'CUDA_VISIBLE_DEVICES="" computes on the processor' in caught.value.fix


OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). "
    "Please update your GPU driver by downloading and installing a new version from the URL"
)
FABRIC = "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"


@pytest.mark.parametrize(
    ("facts", "reason", "fix"),
    [
        (
            replace(UNSEEN, trouble=OLD),
            "the driver is too old for this PyTorch, which is built for CUDA 13.0",
            "update NVIDIA's driver, or install a PyTorch that is built for an older CUDA",
        ),
        (replace(UNSEEN, trouble=FABRIC), "the links between its GPUs are not up", "fabric"),
        (
            replace(UNSEEN, trouble="Error 803: system has unsupported display driver"),
            "parts of the driver are of different versions",
            "restart the machine",
        ),
        (replace(UNSEEN, trouble="Error 999: CUDA unknown error"), "does not answer", "nvidia_uvm"),
        (replace(UNSEEN, driver=None), "there is no driver for it", "--gpus all"),
        (
            replace(UNSEEN, cuda=None, version="2.13.0+cpu"),
            "PyTorch 2.13.0+cpu is built for processors alone",
            "pytorch.org",
        ),
        (replace(UNSEEN, visible=""), 'CUDA_VISIBLE_DEVICES="" hides it', "`unset CUDA_VISIBLE"),
        (replace(UNSEEN, visible="-1"), 'CUDA_VISIBLE_DEVICES="-1" hides it', "`unset CUDA_VI"),
        (replace(UNSEEN, is_divided=True), "MIG divides it", "CUDA_VISIBLE_DEVICES=MIG-"),
        (replace(UNSEEN, is_divided=True, visible="MIG-x"), "MIG divides it", "nvidia-smi -L"),
        (replace(UNSEEN, trouble="A new\nfault"), "A new fault", "`nvidia-smi` shows"),
        (UNSEEN, "PyTorch sees none", "`nvidia-smi` shows"),
        (
            Facts("2.11.0", "13.0", visible="0"),
            "CUDA_VISIBLE_DEVICES=0 names one, and none is found",
            "`unset CUDA_VISIBLE_DEVICES`",
        ),
    ],
)
def test_why_the_processor_computes_is_said(facts: Facts, reason: str, fix: str) -> None:
    found = find_unused(facts)

    assert found is not None
    assert reason in found[0]
    assert fix in found[1]
    assert "\n" not in "".join(found)


@pytest.mark.parametrize(
    "facts",
    [
        SEEN,
        Facts("2.13.0+cpu", None),
        Facts("2.11.0", "13.0"),
        Facts("2.11.0", "13.0", visible=""),
        Facts("2.11.0", "13.0", visible="-1"),
    ],
)
def test_where_there_is_nothing_to_say_nothing_is_said(facts: Facts) -> None:
    assert find_unused(facts) is None
    assert what_is_wrong(facts) == ()


def test_a_gpu_that_is_named_and_not_there_is_an_error() -> None:
    facts = replace(UNSEEN, visible="7", installed=("NVIDIA H100", "NVIDIA H100"))

    with pytest.raises(SetupError) as caught:
        find_unused(facts)

    assert caught.value.message == (
        "CUDA_VISIBLE_DEVICES=7 names no GPU of this machine, which has 0: NVIDIA H100, "
        "1: NVIDIA H100"
    )
    assert what_is_wrong(facts) == (caught.value.message, caught.value.fix)


def test_of_two_gpus_the_freer_one_is_named() -> None:
    busy, free = replace(H100, free_gib=3.0), replace(H100, uuid="cc-3", free_gib=78.0)
    two = replace(SEEN, cards=(busy, free))

    said = find_freer(two)
    assert said == (
        "GPU 0 (NVIDIA H100) computes, which has 3.0 of 79.2 GiB free, GPU 1 has 78.0: "
        "CUDA_VISIBLE_DEVICES=1 takes that one"
    )
    assert "CUDA_VISIBLE_DEVICES=5 takes" in (find_freer(replace(two, visible="2,5")) or "")
    assert find_freer(replace(two, cards=(free, busy))) is None
    assert find_freer(replace(two, cards=(replace(busy, free_gib=77.0), free))) is None
    assert find_freer(replace(two, cards=(replace(busy, free_gib=None), free))) is None
    assert find_freer(SEEN) is None and find_freer(UNSEEN) is None


def test_what_nvidia_smi_says_is_joined_by_the_gpus_own_name() -> None:
    rows = [
        ["GPU-bb-2", "Tesla T4", "570.1", "1024", "[N/A]"],
        ["GPU-aa-1", "NVIDIA H100", "570.1", "[N/A]", "Enabled"],
    ]

    found = add_driver(replace(SEEN, cards=(H100, T4), driver=None), rows)

    assert [card.free_gib for card in found.cards] == [None, 1.0]
    assert found.installed == ("Tesla T4", "NVIDIA H100")
    assert (found.driver, found.is_divided) == ("570.1", True)


def test_the_doctor_shows_each_gpu_and_what_is_wrong_with_it() -> None:
    free = replace(H100, free_gib=78.5)

    assert list(gpu_rows(replace(SEEN, cards=(free, T4, K80)))) == [
        ("CUDA", "PyTorch is built for 13.0; driver 580.65", ""),
        ("GPU 0", "NVIDIA H100, 79.2 GiB, 78.5 of it free, capability 9.0, bfloat16", ""),
        ("GPU 1", "Tesla T4, 14.6 GiB, capability 7.5, float16, no bfloat16", ""),
        (
            "GPU 2",
            "Tesla K80, 11.2 GiB, capability 3.7, float16, no bfloat16",
            "PyTorch 2.11.0+cu130 has no code for the Tesla K80 (compute capability 3.7; it has "
            "code for 75, 80, 90): install a PyTorch that is built for this GPU; "
            'CUDA_VISIBLE_DEVICES="" computes on the processor',
        ),
    ]
    _, unused = gpu_rows(replace(UNSEEN, visible="9"))
    assert unused[1].startswith("NVIDIA H100: CUDA_VISIBLE_DEVICES=9 names no GPU")
    _, none = gpu_rows(Facts("2.13.0+cpu", None))
    assert none == ("GPU", "none: the processor computes", "")
