"""A REF → the model it names: a folder, an adapter, a .gguf file, the built-in one, a hub id."""

import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.digest import digest_files, digest_text
from medllm.artifacts.gguf_files import gguf_in, gguf_parts
from medllm.artifacts.job import begin_work
from medllm.artifacts.lineage import open_input, readable
from medllm.artifacts.manifest import BUILT_IN, BaseModelRef, DataTerm, Kind, Manifest, Parent
from medllm.data.registry.hub import is_offline
from medllm.errors import ArtifactError, ConfigError, did_you_mean
from medllm.models.chat.prompt_template import check_template, drop_generation_markers
from medllm.models.foreign import (
    check_configuration,
    check_finite,
    check_fits,
    check_is_whole,
    first_line,
    leave_float16,
    loading,
    read_mapping,
)
from medllm.models.hardware import Dtype, let_gptqmodel_work, pick_device, pick_dtype
from medllm.models.offload import fit, is_offloaded
from medllm.models.weights import weight_files
from medllm.places import is_address

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

TINY = BUILT_IN
"""The REF of the built-in tiny model."""
GENERATION = "generation_config.json"
MODEL_KINDS: tuple[Kind, ...] = ("model", "quantized", "adapter")


@dataclass(frozen=True)
class ModelRef:
    """A model that was named: where it lies on this machine, and what is known of it."""

    ref: str
    path: Path
    manifest: Manifest | None
    parent: Parent
    base: BaseModelRef
    quantization: str | None = None
    """"nf4": it, or an adapter's base, is quantized so when it is loaded, as QLoRA does."""

    @property
    def location(self) -> str:
        """What transformers loads it by."""
        return str(self.path)

    @property
    def is_elsewhere(self) -> bool:
        """Whether another server has it, at the address that was named."""
        return is_address(self.ref)

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
        files = gguf_parts(self.path) if self.is_gguf else weight_files(self.path)
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
        from medllm.models.tiny.base import tiny_base

        folder = tiny_base()
        identity = digest_files(folder, filter(Path.is_file, folder.rglob("*")))
        parent = Parent(kind="model", path=TINY, identity=identity)
        return ModelRef(ref, folder, None, parent, BaseModelRef(id=TINY))
    path = Path(ref)
    with readable(path, role):
        if path.exists():
            found = open_input(gguf_in(path), {*kinds, "adapter"}, role)
            _check_is_model(found.path, role)
            recorded = found.manifest.base_model if found.manifest else None
            base = recorded or BaseModelRef(id=str(path))
            model = ModelRef(ref, found.path, found.manifest, found.parent, base)
        else:
            model = _hub_model(ref, role)
    if model.is_adapter and "adapter" not in kinds:
        fix = f"`medllm merge --adapter {ref}` folds it into its base: name what that makes"
        raise ArtifactError(f"{role}: {ref} is an adapter, and a whole model is needed", fix)
    return model


def _check_is_model(path: Path, role: str) -> None:
    if path.is_file() and path.suffix != ".gguf":
        raise ArtifactError(f"{role}: {path} is not a model", "name a model folder or a .gguf file")
    names = ("config.json", "adapter_config.json")
    if path.is_dir() and not any((path / name).is_file() for name in names):
        several = sorted(file.name for file in path.glob("*.gguf"))
        if len(several) > 1:
            message = f"{role}: {path} holds several .gguf files: {', '.join(several):.200}"
            raise ArtifactError(message, "name one of them")
        below = {file.parent.name for name in names for file in path.glob(f"*/{name}")}
        fix = "name a folder that transformers can load"
        if below:
            fix = f"name one of the folders in it: {', '.join(sorted(below)):.200}"
        wanted = names[role == "adapter"]
        raise ArtifactError(f"{role}: {path} holds no model (no {wanted})", fix)
    if path.is_dir():
        check_configuration(path)


def _hub_model(ref: str, role: str) -> ModelRef:
    name, _, wanted = ref.partition("@")
    if ref.startswith((".", "/", "~")) or ref.endswith(".gguf") or ref.count("/") > 1:
        open_input(Path(ref), MODEL_KINDS, role)  # raises: missing or unfinished
    if not wanted and "/" in ref and Path(ref).parent.is_dir():
        raise _mistyped(Path(ref), role)
    folder = _download(ref, role)
    parent = Parent(kind="hub", path=ref, identity=digest_text(f"{name}@{folder.name}"))
    check_configuration(folder)
    return ModelRef(ref, folder, None, parent, BaseModelRef(id=name, revision=folder.name))


def _mistyped(path: Path, role: str) -> ArtifactError:
    """Of a name that may be a hub id, and most likely is a path: the hub is not asked for it."""
    hint = did_you_mean(path.name, (each.name for each in path.parent.iterdir()))
    message = f"{role}: the folder {path.parent} holds no {path.name}"
    return ArtifactError(message, f"{hint}check the path; a model on the hub is {path}@main")


HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""What is fetched of a model on the hub: no pickled weights, and no code."""


def _download(ref: str, role: str) -> Path:
    """The folder of a hub model's snapshot, named by its commit; downloaded unless it is there."""
    from httpx import HTTPError
    from huggingface_hub import snapshot_download

    name, _, revision = ref.partition("@")
    # offline, the hub's library asks for the files of a commit, unless it is told not to
    how: dict[str, Any] = {
        "allow_patterns": list(HUB_FILES),
        "ignore_patterns": ["consolidated*"],  # Mistral's own form of the same weights
        "local_files_only": is_offline(),
    }
    if not is_offline():
        begin_work()
        console.notice(f"{role}: there is no folder {ref} here: looking for it on the hub")
    try:
        return Path(snapshot_download(name, revision=revision or None, **how))
    except (OSError, HTTPError, ValueError) as problem:  # ValueError: no name of a repository
        reason = first_line(problem)
        if is_offline():
            reason = "its copy is not on this machine, and the hub is not asked (offline)"
        fix = "check the name, the network and your access to it, or name a local folder"
        message = f"{role}: {ref} is no folder here and cannot be read from the hub: {reason:.160}"
        raise ArtifactError(message, fix) from problem


def load_tokenizer(location: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder or hub id.

    Raises:
        ArtifactError: there is none, it is broken, or which chat template is meant is not known.
    """
    with loading(f"tokenizer of {location}"):
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, trust_remote_code=False
        )
    check_template(tokenizer, location)
    return tokenizer


def load_processor(location: str) -> "ProcessorMixin":
    """What prepares text and images for the model of a folder.

    Raises:
        ArtifactError: there is none, or it prepares no images.
        SetupError: it needs torchvision, as those that also read videos do.
    """
    with loading(f"processor of {location}", package="torchvision"):
        from transformers import AutoProcessor

        processor: ProcessorMixin = AutoProcessor.from_pretrained(location, trust_remote_code=False)
    if not hasattr(processor, "image_processor"):
        message = f"{location}: the image processor of the model is missing"
        fix = "put preprocessor_config.json and processor_config.json of its source there"
        raise ArtifactError(message, fix)
    return processor


def load_causal_lm(
    location: str,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    attn_implementation: str | None = None,
) -> "PreTrainedModel":
    """The model of a folder or hub id, in evaluation mode.

    Only safetensors are read, and no remote code runs. Within `offloading`, one that does not fit
    into memory stays on the disk.

    Raises:
        ArtifactError: it cannot be loaded; says why.
        SetupError: it is quantized, and what reads that is not installed.
    """
    device = device or pick_device()
    quantization = _quantization_of(location)
    named = {read_config(Path(location)).get(key) for key in ("dtype", "torch_dtype")}
    wanted = named if dtype == "auto" else {dtype}
    if quantization and "bfloat16" in named | {quantization.get("bnb_4bit_compute_dtype")}:
        pick_dtype("bfloat16", device)  # says so where it is only emulated
    if quantization.get("dynamic"):
        return _load_overridden(location, device)
    if quantization.get("quant_method") == "bitsandbytes":  # it cannot be moved once it is loaded
        return load_as_stored(location, dtype, device_map={"": device})
    if quantization.get("quant_method") == "compressed-tensors":
        return load_as_stored(location, dtype, **_decompressed()).to(device)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    options["attn_implementation"] = attn_implementation
    if not quantization:
        check_fits(Path(location), auto_class(location))
    with loading(f"model of {location}"):
        if quantization:
            options["dtype"] = dtype
        else:
            options |= {"dtype": pick_dtype(dtype, device), **fit(Path(location), dtype, device)}
        # both, else sizes that differ raise a RuntimeError, and what is missing is made up
        options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
        model, found = auto_class(location).from_pretrained(location, **options)
    check_is_whole(location, found)
    check_finite(model, location)
    if quantization.get("quant_method") == "awq" and "bfloat16" in wanted:
        leave_float16(model, device)
    loaded: PreTrainedModel = (model if is_offloaded(model) else model.to(device)).eval()
    return loaded


def auto_class(location: str) -> Any:
    """The class that makes a model with all its parts: one that reads images, too, if it can."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    if "vision_config" not in read_config(Path(location)):
        return AutoModelForCausalLM
    with loading(f"model of {location}"):
        kind = type(AutoConfig.from_pretrained(location, trust_remote_code=False))
    known = kind in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if known else AutoModelForCausalLM


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder, empty where there is none.

    Raises:
        ArtifactError: it holds no JSON mapping.
    """
    return read_mapping(folder / "config.json")


def text_config_of(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a `config.json` about language: all of it where there is no other part."""
    part = config.get("text_config")
    return part if isinstance(part, dict) and part else config


def load_as_stored(location: str, dtype: Dtype = "auto", **options: Any) -> "PreTrainedModel":
    """The model in the number formats of its files, in evaluation mode; raises as above.

    `dtype` and `options` are those of transformers' `from_pretrained`.
    """
    with loading(f"model of {location}"):
        options |= {"use_safetensors": True, "trust_remote_code": False}
        model, found = auto_class(location).from_pretrained(
            location, dtype=dtype, output_loading_info=True, **options
        )
    check_is_whole(location, found)
    check_finite(model, location)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # else bitsandbytes repacks the weights of 4 bits in the first pass, and is less exact
            module.support_avx512bf16_for_cpu = False
    stored: PreTrainedModel = model.eval()
    return stored


def _decompressed() -> dict[str, Any]:
    """Options: compressed-tensors dequantizes while it loads, not in the first pass, aloud."""
    from transformers import CompressedTensorsConfig

    return {"quantization_config": CompressedTensorsConfig(dequantize=True)}


def _load_overridden(location: str, device: str) -> "PreTrainedModel":
    """A GPTQ model with other settings in some modules: transformers would not heed them."""
    let_gptqmodel_work()
    # its own choice for a GPU are kernels that it compiles then: for minutes, or not without nvcc
    kernel = "gptq_torch" if device == "cuda" else "auto"
    with loading(f"model of {location}"):
        from gptqmodel import GPTQModel

        model: PreTrainedModel = GPTQModel.load(location, device=device, backend=kernel).model
    return model.eval()


def check_ids(location: str, ids: Iterable[int]) -> None:
    """Raise ArtifactError where a text became a token that the model has no embedding of.

    More tokens in the tokenizer are no sign: Gemma 3's has one for images that text models lack.
    """
    config = read_config(Path(location))
    rows = text_config_of(config).get("vocab_size")
    if rows and (most := max(ids, default=0)) >= rows:
        message = f"{location}: its tokenizer gives token {most:,}, and the model has {rows:,}"
        raise ArtifactError(message, "put the tokenizer there that the model was trained with")


def computed_in(model: ModelRef, wanted: Dtype) -> str:
    """The number format that `load_causal_lm` and llama.cpp compute a model in."""
    if model.is_gguf:
        return "gguf"
    if model.is_elsewhere or model.quantization:
        return model.quantization or "not known"
    if wanted == "auto" and _quantization_of(model.location):
        return "as stored"
    return pick_dtype(wanted, pick_device())


def is_quantized(location: str) -> bool:
    """Whether a model folder says that it is quantized."""
    return bool(_quantization_of(location))


def _quantization_of(location: str) -> dict[str, Any]:
    found: Any = read_config(Path(location)).get("quantization_config") or {}
    if not isinstance(found, dict):
        message = f"{location}/config.json is broken: quantization_config holds no mapping"
        raise ArtifactError(message, "restore it")
    return found


TOKENIZER_FILES = ("tokenizer*", "*_tokens*.json", "vocab*", "merges.txt", "chat_template*",
                   "*processor_config.json")  # fmt: skip
"""What prepares text for a model, and images for one that reads them."""


def save_tokenizer(source: ModelRef, folder: Path) -> None:
    """Put the tokenizer of `source` into `folder`, byte for byte but for marks in its template.

    transformers 5 writes no `tokenizer.model` for SentencePiece tokenizers, which llama.cpp's
    converter needs: so the files are copied.
    """
    load_tokenizer(source.location).save_pretrained(folder)
    for pattern in TOKENIZER_FILES:
        for file in source.path.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    drop_generation_markers(folder)


def save_companions(source: ModelRef, folder: Path) -> None:
    """Put the tokenizer and the generation settings of `source` into `folder`, byte for byte.

    Libraries that write models "correct" the settings: gptqmodel makes a greedy model sample.
    """
    save_tokenizer(source, folder)
    if (source.path / GENERATION).is_file():
        shutil.copyfile(source.path / GENERATION, folder / GENERATION)
