"""What this machine offers medllm."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from medllm.data.registry.hub import is_offline
from medllm.engines.llama_cpp_setup import converter_script
from medllm.errors import SetupError
from medllm.models.gpu import read_facts
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


def check_machine() -> list[tuple[str, str, str]]:
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


def _check_package(name: str, remedy: str) -> tuple[str, str, str]:
    try:
        return name, importlib.metadata.version(name), ""
    except importlib.metadata.PackageNotFoundError:
        return name, "missing", remedy


def _check_converter() -> tuple[str, str, str]:
    try:
        return "GGUF converter", str(converter_script()), ""
    except SetupError as problem:
        return "GGUF converter", "missing", problem.fix


def _check_disk(what: str, folder: Path) -> tuple[str, str, str]:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    return f"{what} folder", f"{folder}, {free_gib:.0f} GiB free", ""
