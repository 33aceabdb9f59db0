"""The GPUs of this machine: what PyTorch sees of them, and in plain words why it uses none.

A build of PyTorch for CUDA computes on the processor, without an error, where it cannot reach the
GPU. What is decided here needs facts alone, no GPU.
"""

import os
import re
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from medllm import console
from medllm.errors import SetupError

VISIBLE = "CUDA_VISIBLE_DEVICES"
HIDING = ("", "-1", "NoDevFiles")
"""Values of it that hide every GPU."""
ON_PROCESSOR = f'{VISIBLE}="" computes on the processor'
BFLOAT16 = (8, 0)
"""The compute capability from which NVIDIA's GPUs multiply bfloat16: Ampere. PyTorch emulates it on
older ones (`torch.cuda.is_bf16_supported`)."""
BUSY_GIB = 2.0
"""Less free memory by this than on another GPU: somebody else computes there."""
QUERY = ("nvidia-smi", "--query-gpu=uuid,name,driver_version,memory.free,mig.mode.current",
         "--format=csv,noheader,nounits")  # fmt: skip
SECONDS = 30  # for nvidia-smi: without its daemon it starts each GPU first
KERNEL_MODULE = Path("/proc/driver/nvidia/version")
BUS = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # the vendor's number, and the class of display controllers
UPDATE = "update NVIDIA's driver, or install a PyTorch that is built for an older CUDA"
NO_DRIVER = (
    "there is no driver for it",
    "install NVIDIA's driver; in a container, start that with `--gpus all`",
)
CUDA_BUILD = "install PyTorch's build for CUDA: https://pytorch.org/get-started/locally/"
MIG = f"`nvidia-smi -L` lists them: {VISIBLE}=MIG-…; or switch MIG off"
TROUBLES = (
    (r"driver on your system is too old", "the driver is too old for this PyTorch", UPDATE),
    (r"no NVIDIA driver", *NO_DRIVER),
    (r"error 802|not yet initialized", "the links between its GPUs are not up",
     "start NVIDIA's fabric manager, of the driver's version"),
    (r"error 80[34]|display driver|forward compat", "parts of the driver are of different versions",
     "restart the machine after an update; an image of a container must not bring a newer CUDA"),
    (r"error 999|unknown error", "the driver does not answer",
     "restart the machine, or reload the kernel's module nvidia_uvm"),
)  # fmt: skip
"""What PyTorch says when it finds no GPU (a pattern), what that means, and what helps. Numbers are
of https://docs.nvidia.com/cuda/cuda-runtime-api/, `cudaError`."""


@dataclass(frozen=True)
class Card:
    """A GPU as PyTorch sees it."""

    name: str
    capability: tuple[int, int]
    memory_gib: float
    uuid: str = ""
    free_gib: float | None = None
    """Where it is known without starting anything on the GPU."""

    @property
    def has_bfloat16(self) -> bool:
        """Whether it multiplies bfloat16, and PyTorch need not emulate that."""
        return self.capability >= BFLOAT16


@dataclass(frozen=True)
class Facts:
    """What is known of the GPUs of this machine."""

    version: str
    """Of PyTorch."""
    cuda: str | None
    """The CUDA that PyTorch is built for."""
    architectures: tuple[str, ...] = ()
    """What it has code for: "sm_90", or "compute_90", of which a newer GPU makes its own."""
    cards: tuple[Card, ...] = ()
    """In PyTorch's order; it computes on the first."""
    visible: str | None = None
    """The environment variable CUDA_VISIBLE_DEVICES."""
    trouble: str = ""
    """What PyTorch says where it finds none."""
    installed: tuple[str, ...] = ()
    """The GPUs that the driver knows, or else the bus."""
    driver: str | None = None
    is_divided: bool = False
    """Whether MIG divides one of them."""

    def number_of(self, card: int) -> str:
        """What CUDA_VISIBLE_DEVICES calls the GPU that PyTorch gives this number."""
        return self.visible.split(",")[card].strip() if self.visible else str(card)


def find_unused(facts: Facts) -> tuple[str, str] | None:
    """Why the processor computes though there is a GPU, and what would change that.

    None where PyTorch sees one, and where there is none.

    Raises:
        SetupError: a GPU is named that is not there.
    """
    is_hidden = facts.visible is not None and facts.visible.strip(' "') in HIDING
    if facts.cards or not (facts.installed or facts.trouble or (facts.visible and not is_hidden)):
        return None
    if not (facts.installed or facts.trouble):
        return f"{VISIBLE}={facts.visible} names one, and none is found", f"`unset {VISIBLE}`"
    if is_hidden:
        return f'{VISIBLE}="{facts.visible}" hides it', f"`unset {VISIBLE}` computes on it"
    for pattern, reason, fix in TROUBLES:
        if re.search(pattern, facts.trouble, re.IGNORECASE):
            built = f", which is built for CUDA {facts.cuda}" if fix is UPDATE else ""
            return reason + built, fix
    if facts.cuda is None:
        return f"PyTorch {facts.version} is built for processors alone", CUDA_BUILD
    if facts.driver is None:
        return NO_DRIVER
    if facts.is_divided:
        return "MIG divides it, and PyTorch sees none of its instances", MIG
    if facts.visible is not None:
        there = ", ".join(f"{n}: {name}" for n, name in enumerate(facts.installed))
        message = f"{VISIBLE}={facts.visible} names no GPU of this machine, which has {there}"
        raise SetupError(message, f"name one of them, or `unset {VISIBLE}`; {ON_PROCESSOR}")
    said = " ".join(facts.trouble.split()) or "PyTorch sees none"
    return f"{said:.160}", "`nvidia-smi` shows whether the driver reaches it"


def check_usable(facts: Facts) -> None:
    """Raise SetupError where PyTorch has no code for the GPU that it would compute on."""
    if not facts.cards or has_code(facts.cards[0].capability, facts.architectures):
        return
    card = facts.cards[0]
    known = ", ".join(sorted({of.partition("_")[2] for of in facts.architectures}, key=_number))
    capability = ".".join(map(str, card.capability))
    raise SetupError(
        f"PyTorch {facts.version} has no code for the {card.name} (compute capability "
        f"{capability}; it has code for {known})",
        f"install a PyTorch that is built for this GPU; {ON_PROCESSOR}",
    )


def has_code(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether a GPU runs code for some architectures: of its major version, or PTX of an older one.

    https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/#gpu-compilation; True where there is no
    list, as with ROCm.
    """
    for each in architectures:
        kind, _, _ = each.partition("_")
        built = divmod(_number(each), 10)
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return not architectures


def _number(architecture: str) -> int:
    return int("".join(filter(str.isdigit, architecture)) or 0)


def find_freer(facts: Facts) -> str | None:
    """That another GPU has more free memory than the first, on which PyTorch computes."""
    free = [card.free_gib or 0.0 for card in facts.cards]
    best = max(range(len(free)), key=free.__getitem__, default=0)
    if not free or facts.cards[0].free_gib is None or free[best] - free[0] < BUSY_GIB:
        return None
    sizes = f"{free[0]:.1f} of {facts.cards[0].memory_gib:.1f} GiB free, GPU"
    taken, other = facts.number_of(0), facts.number_of(best)
    return (
        f"GPU {taken} ({facts.cards[0].name}) computes, which has {sizes} {other} has "
        f"{free[best]:.1f}: {VISIBLE}={other} takes that one"
    )


@cache
def read_facts() -> Facts:
    """What this machine says; looks beyond PyTorch where that sees none, or has the choice."""
    import torch

    found = Facts(torch.__version__, torch.version.cuda or torch.version.hip)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            cards = tuple(map(_card, range(torch.cuda.device_count())))
            trouble = "" if torch.cuda.is_available() else " ".join(str(w.message) for w in caught)
        except RuntimeError as problem:
            cards, trouble = (), str(problem)
    coded = () if torch.version.hip else tuple(torch.cuda.get_arch_list())
    found = replace(found, architectures=coded, visible=os.environ.get(VISIBLE))
    found = replace(found, cards=cards if not trouble else (), trouble=trouble)
    return found if len(found.cards) == 1 else ask_driver(found)


def _card(number: int) -> Card:
    import torch

    about = torch.cuda.get_device_properties(number)
    size, uuid = about.total_memory / 2**30, str(getattr(about, "uuid", ""))
    return Card(about.name, (about.major, about.minor), size, uuid)


def ask_driver(facts: Facts) -> Facts:
    """The facts with what nvidia-smi says of all GPUs, else the kernel's module and the bus."""
    rows: list[list[str]] = []
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(QUERY, capture_output=True, text=True, timeout=SECONDS, check=True)
        rows = [[cell.strip() for cell in line.split(",")] for line in told.stdout.splitlines()]
    return add_driver(facts, rows) if rows else replace(
        facts, installed=tuple(_on_bus()), driver=_kernel_module()
    )  # fmt: skip


def add_driver(facts: Facts, rows: Sequence[Sequence[str]]) -> Facts:
    """The facts with rows of uuid, name, driver's version, free MiB and state of MIG."""
    free = {uuid.removeprefix("GPU-"): float(mib) / 1024 for uuid, _, _, mib, _ in rows
            if mib.isdecimal()}  # fmt: skip
    return replace(
        facts,
        cards=tuple(replace(card, free_gib=free.get(card.uuid)) for card in facts.cards),
        installed=tuple(name for _, name, *_ in rows),
        driver=rows[0][2],
        is_divided=any(mig == "Enabled" for *_, mig in rows),
    )


def _kernel_module() -> str | None:
    """The version of the driver's part in the kernel, None where it is not loaded."""
    with suppress(OSError):
        found = re.search(r"Kernel Module\D*([\d.]+)", KERNEL_MODULE.read_text("utf-8"))
        return found[1] if found else None
    return None


def _on_bus() -> Iterator[str]:
    """A name for each display controller of NVIDIA's on the PCI bus."""
    for folder in sorted(BUS.glob("*")):
        with suppress(OSError):
            vendor, kind = ((folder / name).read_text("utf-8") for name in ("vendor", "class"))
            if vendor.strip() == NVIDIA and kind.startswith(DISPLAY):
                yield "an NVIDIA GPU"


@cache
def uses_cuda() -> bool:
    """Whether the GPU computes; says, once, where another would do better, or why none does.

    Raises:
        SetupError: PyTorch has no code for it, or a GPU is named that is not there.
    """
    facts = read_facts()
    check_usable(facts)
    if unused := find_unused(facts):
        what, (reason, fix) = ", ".join(dict.fromkeys(facts.installed)) or "the GPU", unused
        console.notice(f"the processor computes, not {what}: {reason}; {fix}")
    elif (freer := find_freer(facts)) and "LOCAL_RANK" not in os.environ:
        console.notice(freer)
    return bool(facts.cards)


@cache
def say_emulated() -> None:
    """Say, once, that the GPU only emulates bfloat16."""
    card = read_facts().cards[0]
    old = ".".join(map(str, card.capability))
    console.notice(
        f"the {card.name} (compute capability {old}) has no bfloat16, which PyTorch emulates, many "
        "times slower: dtype float16 is quick there; GPUs from 8.0 (Ampere) on have it"
    )


def describe_device(device: str | None) -> str | None:
    """For a manifest: the device, and why it is the processor though there is a GPU."""
    unused = what_is_wrong(read_facts()) if device == "cpu" else None
    return f"cpu (not the GPU: {unused[0]})" if unused else device


def what_is_wrong(facts: Facts, card: int = 0) -> tuple[str, ...]:
    """Why a GPU does not compute, and what would help; empty where it does, or there is none."""
    try:
        check_usable(replace(facts, cards=facts.cards[card:]))
        return find_unused(facts) or ()
    except SetupError as problem:
        return problem.message, problem.fix
