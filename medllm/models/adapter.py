"""Adapters: PEFT weights and the base they belong to."""

import json
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.manifest import Parent
from medllm.errors import ArtifactError
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef, load_causal_lm, resolve_model

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
    trained_on = _recorded_base(adapter)
    recorded = trained_on.path if trained_on else adapter_config(adapter)["base_model_name_or_path"]
    base = resolve_model(model or recorded, role="base model")
    if trained_on and base.parent.identity != trained_on.identity:
        raise ArtifactError(
            f"{base.location} is not the base that {adapter.location} was trained on "
            f"({trained_on.path})",
            f"use --model {trained_on.path}",
        )
    return base


def _recorded_base(adapter: ModelRef) -> Parent | None:
    """The base in the adapter's manifest: its first parent."""
    parents = adapter.manifest.parents if adapter.manifest else ()
    return parents[0] if parents else None


def load_adapter(
    adapter: ModelRef, base: ModelRef | None = None, dtype: Dtype = "auto"
) -> "PreTrainedModel":
    """The base with the adapter on top, in evaluation mode.

    Raises:
        ArtifactError: the weights do not fit the base.
    """
    with console.quiet():  # peft imports gptqmodel where it is installed, which prints a banner
        from peft import PeftModel

    model = load_causal_lm((base or base_of(adapter)).location, dtype=dtype)
    try:
        with console.quiet():
            wrapped = PeftModel.from_pretrained(model, adapter.location)
    except (RuntimeError, ValueError, KeyError, OSError) as problem:
        reason = (str(problem).strip().splitlines() or ["?"])[0]
        raise ArtifactError(
            f"{adapter.location}: does not fit its base: {reason:.200}",
            "name the base it was trained on with --model",
        ) from problem
    return wrapped.eval()
