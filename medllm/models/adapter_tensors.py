"""Whether the file of an adapter holds the tensors that its configuration describes.

PEFT leaves a layer without its matrices as it is, and passes over tensors that it does not know:
such an adapter answers, but as another one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ArtifactError
from medllm.models.foreign import NONSENSE, loading
from medllm.models.load import auto_class
from medllm.models.weights import Stored, read_header

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the base's modules."""
EMBEDDING_ROWS = (
    "weight",
    "modules_to_save.weight",
    "original_module.weight",
    "base_layer.weight",
    "token_adapter.base_layer.weight",
)
"""By what names a file may hold a whole embedding, which PEFT adds where the vocabulary grew."""
FIX = (
    "train or download the adapter again, as safetensors; "
    "or name the base that it was trained on with --model"
)

TRAINED_ROWS = "token_adapter.trainable_tokens_delta"
"""The rows of `trainable_token_indices`; of a tied head they are saved a second time."""

Shape = tuple[int, ...]


def fit_vocabulary(model: "PreTrainedModel", folder: Path, config: Mapping[str, Any]) -> None:
    """Give a base as many tokens as an adapter that added some, which brings their weights."""
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding)
    stored = read_header(folder / WEIGHTS)
    keys = (f"{PREFIX}{name}.{part}" for part in EMBEDDING_ROWS)
    whole = next((stored[key].rows for key in keys if key in stored), None)
    rows = embedding.weight.shape[0]
    wanted = whole or max(rows, 1 + max(_trained_tokens(config), default=-1))
    if wanted != rows:
        model.resize_token_embeddings(wanted, mean_resizing=False)


def _trained_tokens(config: Mapping[str, Any]) -> list[int]:
    """The tokens whose embeddings are trained one by one."""
    indices = config.get("trainable_token_indices") or []
    if isinstance(indices, dict):
        return [token for each in indices.values() for token in each]
    return list(indices)


def build_on_paper(location: str) -> "PreTrainedModel":
    """The model of a folder without any weights.

    Raises:
        ArtifactError: its configuration is broken.
    """
    import torch
    from transformers import AutoConfig

    with loading(f"model of {location}"), torch.device("meta"):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        model: PreTrainedModel = auto_class(location).from_config(config)
        return model


def describe_on_paper(location: str, folder: Path, config: Mapping[str, Any]) -> "PeftModel":
    """The base with the adapter that a configuration describes, without any weights.

    Raises:
        ArtifactError: the configuration does not fit the base.
    """
    import torch

    base = build_on_paper(location)
    with console.quiet(), torch.device("meta"):
        from peft import PeftConfig, PeftModel

        fit_vocabulary(base, folder, config)
        try:
            settings = PeftConfig.from_pretrained(str(folder))
            settings.inference_mode = True
            return PeftModel(base, settings, low_cpu_mem_usage=True)
        except NONSENSE as problem:
            message = f"{folder}: its configuration does not fit its base: {problem}"
            raise ArtifactError(message[:300], FIX) from problem


def check_tensors(folder: Path, tuned: "PeftModel") -> None:
    """Raise ArtifactError unless a file holds what the adapter on `tuned` consists of."""
    if problem := find_difference(folder, tuned):
        raise ArtifactError(f"{folder / WEIGHTS} {problem}", FIX)


def find_difference(folder: Path, tuned: "PeftModel") -> str | None:
    """What a file lacks, has in another size or holds beyond its description; None where whole."""
    described, stored = _described(tuned), read_header(folder / WEIGHTS)
    if missing := [name for name in described if name not in stored]:
        return (
            f"lacks {len(missing)} of the {len(described)} tensors that its configuration "
            f"describes, among them {missing[0]}"
        )
    for name, shape in described.items():
        if stored[name].shape != shape:
            found, wanted = (" × ".join(map(str, each)) for each in (stored[name].shape, shape))
            return f"has {name} of size {found or 'one number'}, where {wanted} is described"
    if unknown := sorted(stored.keys() - described.keys() - _copies(tuned, stored, described)):
        return (
            f"holds {len(unknown)} tensors that its configuration does not describe, among them "
            f"{unknown[0]}"
        )
    return None


def _described(tuned: "PeftModel") -> dict[str, Shape]:
    """The tensors of the adapter by the names that PEFT saves them under, and their sizes."""
    from peft import get_peft_model_state_dict

    with console.quiet():
        state = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in sorted(state.items())}


def _copies(
    tuned: "PeftModel", stored: Mapping[str, Stored], described: Mapping[str, Shape]
) -> set[str]:
    """Embeddings and heads of the right size, which a file may hold beside the adapter."""
    rows = {shape for name, shape in described.items() if name.endswith(TRAINED_ROWS)}
    allowed = {
        name for name in stored if name.endswith(TRAINED_ROWS) and stored[name].shape in rows
    }
    ends = (tuned.get_input_embeddings(), tuned.get_output_embeddings())
    sizes = {id(end): tuple(end.weight.shape) for end in ends if end is not None}
    for name, module in tuned.named_modules():
        if id(module) in sizes:
            owner = name.removesuffix(".token_adapter.base_layer")
            owner = owner.rpartition(".modules_to_save.")[0] or owner
            owner = owner.removesuffix(".original_module").removesuffix(".base_layer")
            keys = {f"{owner}.{part}" for part in EMBEDDING_ROWS}
            allowed |= {k for k in keys & stored.keys() if stored[k].shape == sizes[id(module)]}
    return allowed
