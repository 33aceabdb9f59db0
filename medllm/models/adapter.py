"""Adapters: PEFT weights and the base they belong to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ArtifactError
from medllm.models.foreign import first_line
from medllm.models.hardware import Dtype
from medllm.models.load import GENERATION, ModelRef, load_causal_lm, resolve_model
from medllm.models.memory import is_out_of_memory
from medllm.models.weights import read_header

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the base's modules."""

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def adapter_config(adapter: ModelRef) -> dict[str, Any]:
    """The content of `adapter_config.json`.

    Raises:
        ArtifactError: the folder is no adapter.
    """
    path = adapter.path / "adapter_config.json"
    if not path.is_file():
        raise ArtifactError(
            f"{adapter.location} is not an adapter", "name a folder that `medllm finetune` wrote"
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def base_of(adapter: ModelRef, model: str | None = None) -> ModelRef:
    """The base of an adapter: the one named, else the one in its configuration.

    It is checked against the adapter's manifest, where there is one.

    Raises:
        ArtifactError: the base is not the one that the adapter was trained on.
    """
    parents = adapter.manifest.parents if adapter.manifest else ()
    if not parents:
        return resolve_model(model or _recorded_base(adapter), role="base model")
    trained_on = parents[0]
    base = resolve_model(model or trained_on.path, role="base model")
    if base.parent.identity != trained_on.identity:
        raise ArtifactError(
            f"{base.location} is not the base that {adapter.location} was trained on "
            f"({trained_on.path})",
            f"use --model {trained_on.path}",
        )
    return base


def _recorded_base(adapter: ModelRef) -> str | None:
    """The base that an adapter's configuration names, at the revision that it names."""
    config = adapter_config(adapter)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        message = f"{adapter.location}: adapter_config.json names no base model"
        raise ArtifactError(message, "name it with --model REF")
    return name if not revision or Path(name).exists() else f"{name}@{revision}"


def _fit_vocabulary(model: "PreTrainedModel", adapter: ModelRef) -> None:
    """Give the base as many tokens as an adapter that added some, which brings their weights."""
    weights, embedding = adapter.path / WEIGHTS, model.get_input_embeddings()
    if not weights.is_file():
        return
    name = next(name for name, module in model.named_modules() if module is embedding)
    learnt = read_header(weights).get(f"{PREFIX}{name}.weight")
    if learnt and learnt.rows != embedding.weight.shape[0]:
        model.resize_token_embeddings(learnt.rows, mean_resizing=False)


def load_adapter(
    adapter: ModelRef,
    base: ModelRef | None = None,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
) -> "PreTrainedModel":
    """The base with the adapter on top, in evaluation mode.

    Raises:
        ArtifactError: the weights do not fit the base.
    """
    model = load_causal_lm((base or base_of(adapter)).location, dtype=dtype, device=device)
    return add_adapter(model, adapter)


def add_adapter(model: "PreTrainedModel", adapter: ModelRef) -> "PreTrainedModel":
    """The adapter on top of its loaded base, which it changes; in evaluation mode.

    Raises:
        ArtifactError: the weights do not fit the base.
    """
    _fit_vocabulary(model, adapter)
    try:
        with console.quiet():  # peft imports gptqmodel where it is installed, which prints a banner
            from peft import PeftModel
            from transformers import GenerationConfig

            if (adapter.path / GENERATION).is_file():
                model.generation_config = GenerationConfig.from_pretrained(adapter.location)
            return PeftModel.from_pretrained(model, adapter.location).eval()
    except (RuntimeError, ValueError, KeyError, OSError) as problem:
        if is_out_of_memory(problem):
            raise
        raise ArtifactError(
            f"{adapter.location}: does not fit its base: {first_line(problem):.200}",
            "name the base it was trained on with --model",
        ) from problem
