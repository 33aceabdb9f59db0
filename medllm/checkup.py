"""What this machine offers medllm."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from medllm.data.registry.hub import is_offline
from medllm.engines.llama_cpp_setup import converter_script
from medllm.errors import SetupError
from medllm.models.gpu import Facts, read_facts, what_is_wrong
from medllm.models.hardware import count_cpus
from medllm.places import cache_dir, data_dir

CORE = "pip install medllm"
NEEDS = {
    **dict.fromkeys(("torch", "transformers", "trl", "peft"), CORE),
    "gptqmodel": "pip install 'medllm[gptq]', for --format gptq and awq",
    "optimum": "pip install 'medllm[gptq]', to load GPTQ models",
    "bitsandbytes": "pip install 'medllm[bnb]', for --format bnb",
    "llmcompressor": "pip install 'medllm[fp8]', for --format fp8 and w8a8",
    "llama-cpp-python": "medllm doctor --set-up-llama-cpp, for --format gguf",
    "optuna": "pip install 'medllm[search]', for finetune.search",
    "fastapi": "pip install 'medllm[serve]', for medllm serve",
}
"""Package → how to get it."""
Row = tuple[str, str, str]
"""A part of the machine, its state and the remedy."""


def check_machine() -> list[Row]:
    """Rows of (part, state, remedy); the remedy is empty where nothing is missing."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    hub = "not asked (offline)" if is_offline() else "asked when a name is not here"
    return [
        ("python", platform.python_version(), ""),
        ("processor", f"{count_cpus()} cores, {memory_gib:.0f} GiB memory", ""),
        ("device", _device(), ""),
        *(_check_package(name, remedy) for name, remedy in NEEDS.items()),
        _check_converter(),
        _check_disk("cache", cache_dir()),
        _check_disk("data", data_dir()),
        ("hub", hub, ""),
    ]


def _device() -> str:
    import torch

    if read_facts().cards:
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_package(name: str, remedy: str) -> Row:
    try:
        return name, importlib.metadata.version(name), ""
    except importlib.metadata.PackageNotFoundError:
        return name, "missing", remedy


def _check_converter() -> Row:
    try:
        return "GGUF converter", str(converter_script()), ""
    except SetupError as problem:
        return "GGUF converter", "missing", problem.fix


def _check_disk(what: str, folder: Path) -> Row:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    return f"{what} folder", f"{folder}, {free_gib:.0f} GiB free", ""


def gpu_rows(facts: Facts) -> Iterator[Row]:
    """PyTorch's CUDA and the driver, and each GPU, or why none of them computes."""
    cuda = f"PyTorch is built for {facts.cuda}" if facts.cuda else "PyTorch has none"
    yield "CUDA", f"{cuda}; driver {facts.driver or 'not found'}", ""
    for number, card in enumerate(facts.cards):
        free = "" if card.free_gib is None else f", {card.free_gib:.1f} of it free"
        capability = ".".join(map(str, card.capability))
        bfloat16 = "bfloat16" if card.has_bfloat16 else "float16, no bfloat16"
        state = f"{card.name}, {card.memory_gib:.1f} GiB{free}, capability {capability}, {bfloat16}"
        yield f"GPU {facts.number_of(number)}", state, ": ".join(what_is_wrong(facts, number))
    if not facts.cards:
        reason, fix = what_is_wrong(facts) or ("the processor computes", "")
        found = ", ".join(facts.installed) or "none"
        yield "GPU", f"{found}: {reason}", fix
