"""A REF → the model it names: a folder, an adapter, a .gguf file, the built-in one, a hub id."""

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.digest import digest_files, digest_text
from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import BaseModelRef, DataTerm, Kind, Manifest, Parent
from medllm.data.hub import is_offline
from medllm.errors import ArtifactError, ConfigError
from medllm.models.hardware import (
    WIDTHS,
    Dtype,
    count_parameters,
    free_memory_gib,
    pick_device,
    pick_dtype,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = "medllm/tiny"
"""The REF of the built-in tiny model."""
IMATRIX = "imatrix.gguf"
"""The importance matrix beside a quantized .gguf file; no model."""
MODEL_KINDS: tuple[Kind, ...] = ("model", "quantized", "adapter")
COMFORTABLE = 0.6
"""The share of free memory that weights may take; the rest is for activations, and for a quantized
model that is loaded beside its parent."""


@dataclass(frozen=True)
class ModelRef:
    """A model that was named: where it lies on this machine, and what is known of it."""

    ref: str
    path: Path
    manifest: Manifest | None
    parent: Parent
    base: BaseModelRef

    @property
    def location(self) -> str:
        """What transformers loads it by."""
        return str(self.path)

    @property
    def is_gguf(self) -> bool:
        """Whether it is a .gguf file."""
        return self.path.suffix == ".gguf"

    @property
    def is_adapter(self) -> bool:
        """Whether it is a folder of PEFT weights."""
        return (self.path / "adapter_config.json").is_file()

    @property
    def weight_bytes(self) -> int:
        """The size of its weights."""
        files = [self.path] if self.is_gguf else self.path.glob("*.safetensors")
        return sum(file.stat().st_size for file in files)

    @property
    def data_terms(self) -> tuple[DataTerm, ...]:
        """The terms that follow everything made from it."""
        return self.manifest.data_terms if self.manifest else ()


def resolve_model(
    ref: str | None, *, role: str = "model", kinds: Collection[str] = MODEL_KINDS
) -> ModelRef:
    """What a REF names, checked to be complete and of one of `kinds`; a hub id is downloaded.

    Raises:
        ConfigError: no REF.
        ArtifactError: a path that is missing, unfinished, altered, of another kind, or no model.
    """
    if not ref:
        raise ConfigError(
            f"no {role} is named", f"--model REF, or `model:` in the recipe; `{TINY}` is built in"
        )
    if ref == TINY:
        from medllm.models.tiny import tiny_base

        folder = tiny_base()
        identity = digest_files(folder, filter(Path.is_file, folder.rglob("*")))
        parent = Parent(kind="model", path=TINY, identity=identity)
        return ModelRef(ref, folder, None, parent, BaseModelRef(id=TINY))
    path = Path(ref)
    if not path.exists():
        return _hub_model(ref, role)
    found = open_input(_gguf_in(path), kinds, role)
    _check_is_model(found.path, role)
    recorded = found.manifest.base_model if found.manifest else None
    base = recorded or BaseModelRef(id=str(path))
    return ModelRef(ref, found.path, found.manifest, found.parent, base)


def _gguf_in(path: Path) -> Path:
    """The .gguf file of a folder that holds just one model; else the path as it is."""
    found = [] if (path / "config.json").is_file() else path.glob("*.gguf")
    files = [file for file in found if file.name != IMATRIX]
    return files[0] if len(files) == 1 else path


def _check_is_model(path: Path, role: str) -> None:
    if path.is_file() and path.suffix != ".gguf":
        raise ArtifactError(f"{role}: {path} is not a model", "name a model folder or a .gguf file")
    names = ("config.json", "adapter_config.json")
    if path.is_dir() and not any((path / name).is_file() for name in names):
        raise ArtifactError(
            f"{role}: {path} holds no model (no config.json)",
            "name a folder that transformers can load",
        )


def _hub_model(ref: str, role: str) -> ModelRef:
    if ref.startswith((".", "/", "~")) or ref.endswith(".gguf") or ref.count("/") > 1:
        open_input(Path(ref), MODEL_KINDS, role)  # raises: missing or unfinished
    folder = _download(ref, role)
    revision = folder.name  # a snapshot's folder is named by its commit
    parent = Parent(kind="hub", path=ref, identity=digest_text(f"{ref}@{revision}"))
    return ModelRef(ref, folder, None, parent, BaseModelRef(id=ref, revision=revision))


HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""What is fetched of a model on the hub: no pickled weights, and no code."""


def _download(ref: str, role: str) -> Path:
    """The folder of a hub model's snapshot in the hub's cache, downloaded unless it is there."""
    from httpx import HTTPError
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, allow_patterns=list(HUB_FILES)))
    except (OSError, HTTPError, ValueError) as problem:  # ValueError: no name of a repository
        reason = first_line(problem)
        if is_offline():
            reason = "it is not on this machine, and the hub is not asked (offline)"
        raise ArtifactError(
            f"{role}: {ref} is no folder here and cannot be read from the hub: {reason:.160}",
            "check the name, the network and your access to it, or name a local folder",
        ) from problem


def first_line(problem: Exception) -> str:
    """What a foreign error says first."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Silence; what the libraries find wrong becomes an ArtifactError."""
    from safetensors import SafetensorError

    try:
        with console.quiet():  # torchao, which gptqmodel brings, complains at import
            yield
    except (OSError, ValueError, KeyError, SafetensorError) as problem:
        message = f"{what}: cannot be loaded: {first_line(problem):.200}"
        raise ArtifactError(message, "check the files in it") from problem


def load_tokenizer(location: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder or hub id.

    Raises:
        ArtifactError: there is none, or it is broken.
    """
    with _loading(f"tokenizer of {location}"):
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location)
    return tokenizer


def load_causal_lm(
    location: str, *, dtype: Dtype = "auto", device: str | None = None
) -> "PreTrainedModel":
    """The model of a folder or hub id, in evaluation mode.

    Only safetensors are read, and no remote code runs. Within `offloading`, one that does not fit
    into memory stays on the disk.

    Raises:
        ArtifactError: it cannot be loaded; says why.
    """
    device = device or pick_device()
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    with _loading(f"model of {location}"):
        from transformers import AutoModelForCausalLM

        if not is_quantized(location):
            options["dtype"] = pick_dtype(dtype, device)
            if _offloads:
                options |= _fit(location, dtype, device)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(location, **options)
    return (model if is_offloaded(model) else model.to(device)).eval()


_offloads: list[tuple[Path, float | None]] = []


@contextmanager
def offloading(folder: Path, max_memory_gib: float | None = None) -> Iterator[None]:
    """Meanwhile a model that does not fit into memory is read from the disk, layer by layer.

    Args:
        folder: For weights that are stored otherwise than they are computed with (fused experts).
        max_memory_gib: The most that weights may take; else `COMFORTABLE` of what is free.
    """
    _offloads.append((folder, max_memory_gib))
    try:
        yield
    finally:
        _offloads.pop()


def is_offloaded(model: "PreTrainedModel") -> bool:
    """Whether layers of a model are read from the disk each time they compute."""
    return "disk" in getattr(model, "hf_device_map", {}).values()


def _fit(location: str, wanted: Dtype, device: str) -> dict[str, Any]:
    """How to load a model so that it fits into memory: as it is, in bfloat16, or from the disk."""
    folder, most = _offloads[-1]
    room = COMFORTABLE * free_memory_gib(device) if most is None else most
    dtype = pick_dtype(wanted, device)
    millions = count_parameters(Path(location)) / 1e6
    needed = {name: millions * 1e6 * width / 2**30 for name, width in WIDTHS.items()}
    if needed[dtype] <= room:
        return {}
    sizes = f"{needed[dtype]:.2g} GiB of weights in {dtype}", f"{room:.2g} GiB of {device} memory"
    lacks = " do not fit into ".join(sizes)
    if (wanted, dtype) == ("auto", "float32") and needed["bfloat16"] <= room:
        console.notice(f"{lacks}: computing in bfloat16, which is less exact")
        return {"dtype": "bfloat16"}
    console.notice(f"{lacks}: each layer is read from the disk when it computes, which is slower")
    return {"device_map": _place_layers(location, device), "offload_folder": str(folder)}


def _place_layers(location: str, device: str) -> dict[str, str]:
    """For accelerate: the layers of a model, and an output layer of its own, stay on the disk."""
    from torch import device as on
    from transformers import AutoConfig, AutoModelForCausalLM

    with on("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(location))
    kinds = model._no_split_modules
    layers = {name for name, each in model.named_modules() if type(each).__name__ in kinds}
    if not model.all_tied_weights_keys:
        head = model.get_output_embeddings()
        layers |= {name for name, each in model.named_modules() if each is head}
    tensors = (*model.state_dict(), *(name for name, _ in model.named_buffers()))
    rest = {name.rpartition(".")[0] for name in tensors if not any(f"{x}." in name for x in layers)}
    return dict.fromkeys(sorted(layers), "disk") | dict.fromkeys(sorted(rest), device)


def is_quantized(location: str) -> bool:
    """Whether a model folder says that it is quantized."""
    config = Path(location) / "config.json"
    return config.is_file() and "quantization_config" in json.loads(config.read_text("utf-8"))


TOKENIZER_FILES = ("tokenizer*", "*_tokens*.json", "vocab*", "merges.txt", "chat_template*")


def save_tokenizer(source: ModelRef, folder: Path) -> None:
    """Put the tokenizer of `source` into `folder`, byte for byte.

    transformers 5 writes no `tokenizer.model` for SentencePiece tokenizers, which llama.cpp's
    converter needs: so the files are copied.
    """
    load_tokenizer(source.location).save_pretrained(folder)
    for pattern in TOKENIZER_FILES:
        for file in source.path.glob(pattern):
            shutil.copyfile(file, folder / file.name)
