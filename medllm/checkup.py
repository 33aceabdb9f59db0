"""What this machine offers medllm."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from medllm.config.loader import Document, read_yaml, validate
from medllm.data.registry.hub import is_offline
from medllm.engines.llama_cpp_setup import converter_script, find_llama_server
from medllm.errors import SetupError
from medllm.models.gpu import Facts, read_facts, what_is_wrong
from medllm.models.hardware import count_cpus
from medllm.places import cache_dir, data_dir
from medllm.recipe import Needs, list_recipes

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
EXTRAS = {"gptq": ("gptqmodel", "optimum"), "bnb": ("bitsandbytes",), "fp8": ("llmcompressor",),
          "gguf": ("llama-cpp-python", "GGUF converter"), "search": ("optuna",),
          "serve": ("fastapi",)}  # fmt: skip
"""Extra → the parts that it brings, or that the set-up of llama.cpp does."""
GIB = 2**30 / 1e9
"""Of it in GB."""
AS_SOLD = 0.98
"""A card sold as one of 16 GB has a little less: a T4 15.8."""
Row = tuple[str, str, str]
"""A part of the machine, its state and the remedy."""


def check_machine() -> list[Row]:
    """Rows of (part, state, remedy); the remedy is empty where nothing is missing."""
    hub = "not asked (offline)" if is_offline() else "asked when a name is not here"
    return [
        ("python", platform.python_version(), ""),
        ("processor", f"{count_cpus()} cores, {_memory_gib():.0f} GiB memory", ""),
        ("device", _device(), ""),
        *(_check_package(name, remedy) for name, remedy in NEEDS.items()),
        _check_part("GGUF converter", converter_script),
        _check_part("llama-server", lambda: find_llama_server()[0]),
        _check_disk("cache", cache_dir()),
        _check_disk("data", data_dir()),
        ("hub", hub, ""),
    ]


def fits(facts: Facts, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Each shipped recipe that names what it needs, and what this machine lacks of it."""
    states = {part: state for part, state, _ in rows}
    found = {}
    for name, path in list_recipes().items():
        if stated := read_yaml(path).data.get("needs"):
            needs = validate(Needs, Document({**stated}))
            found[name] = [
                *_lacking_hardware(needs, facts, states["device"]),
                *_lacking(needs, states),
            ]
    return found


def _lacking_hardware(needs: Needs, facts: Facts, device: str) -> Iterator[str]:
    if needs.device and needs.device != device:
        yield f"{needs.device} (this machine has {device})"
    cards = [card for card in facts.cards if card.memory_gib * GIB >= needs.gpu_memory_gb * AS_SOLD]
    if needs.bfloat16:
        cards = [card for card in cards if card.has_bfloat16]
    if len(cards) < needs.gpus:
        size = f" of {needs.gpu_memory_gb:g} GB" if needs.gpu_memory_gb else ""
        kind = f"{size}{' with bfloat16' if needs.bfloat16 else ''}"
        yield f"{needs.gpus} GPU{'s' if needs.gpus > 1 else ''}{kind}"
    if _memory_gib() * GIB < needs.memory_gb * AS_SOLD:
        yield f"{needs.memory_gb:g} GB of memory"


def _lacking(needs: Needs, states: Mapping[str, str]) -> list[str]:
    """The parts of its extras that are missing."""
    parts = [part for extra in needs.extras for part in EXTRAS.get(extra, ())]
    return [part for part in parts if states.get(part) == "missing"]


def conclude(rows: Sequence[Row]) -> str:
    """The whole in a line."""
    missing = [part for part, _, remedy in rows if remedy]
    if not missing:
        return "all is well"
    things = "1 thing is" if len(missing) == 1 else f"{len(missing)} things are"
    return f"{things} missing: {', '.join(missing)}"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


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


def _check_part(name: str, find: Callable[[], Path]) -> Row:
    try:
        return name, str(find()), ""
    except SetupError as problem:
        return name, "missing", problem.fix


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
