"""Adapters: PEFT weights and the base they belong to."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.manifest import Parent
from medllm.errors import ArtifactError
from medllm.models.adapter_tensors import FIX, WEIGHTS, check_tensors, fit_vocabulary
from medllm.models.foreign import NONSENSE, first_line
from medllm.models.hardware import Dtype
from medllm.models.load import GENERATION, ModelRef, load_causal_lm, resolve_model
from medllm.models.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST = 1e6
"""The largest lora_alpha that is read: thousands of times what anybody trains with."""


def adapter_config(adapter: ModelRef) -> dict[str, Any]:
    """The content of `adapter_config.json`.

    Raises:
        ArtifactError: the folder is no adapter, or the file is broken.
    """
    path = adapter.path / "adapter_config.json"
    if not path.is_file():
        raise ArtifactError(
            f"{adapter.location} is not an adapter", "name a folder that `medllm finetune` wrote"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise ArtifactError(f"{path} is broken: {first_line(problem)}", FIX) from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise ArtifactError(f"{path} is broken: it describes no adapter (no peft_type)", FIX)
    if "num_virtual_tokens" in config:  # passes that read a part of a text would count them anew
        message = f"{adapter.location} is a learned prompt ({config['peft_type']}), not weights"
        raise ArtifactError(message, "train an adapter such as LoRA")
    if config["peft_type"] == "LORA":
        _check_numbers(path, config)
    return config


def _check_numbers(path: Path, config: dict[str, Any]) -> None:
    """Raise ArtifactError where a number of LoRA's is none: PEFT computes with what it reads."""
    ranks = _numbers(config, "r", "rank_pattern")
    others = _numbers(config, "lora_alpha", "alpha_pattern") | _numbers(config, "lora_dropout")
    wrong = [name for name, rank in ranks.items() if type(rank) is not int or rank < 1]
    for name, value in others.items():
        if type(value) not in (int, float) or not abs(value) <= MOST:
            wrong.append(name)
    if wrong:
        said = (ranks | others)[wrong[0]]
        raise ArtifactError(f"{path} is broken: {wrong[0]} cannot be {said!r:.60}", FIX)


def _numbers(config: dict[str, Any], name: str, pattern: str = "") -> dict[str, Any]:
    """A setting by its name, where there is one, and what some modules have in its place."""
    own = {name: config[name]} if name in config else {}
    others = config.get(pattern) or {}
    if not isinstance(others, dict):
        return own | {pattern: others}
    return own | {f"{pattern}.{module}": value for module, value in others.items()}


def _refuse_constant(name: str) -> None:
    """JSON as Python reads it has NaN and Infinity, which no setting can be."""
    raise ValueError(f"it holds {name}")


def check_weights(adapter: ModelRef) -> None:
    """Raise ArtifactError unless there are safetensors: a pickle can run code, so none is read."""
    if not (adapter.path / WEIGHTS).is_file():
        message = f"{adapter.location} has no {WEIGHTS}"
        raise ArtifactError(message, "save it as safetensors; pickled weights are not read")


def base_of(adapter: ModelRef, model: str | None = None) -> ModelRef:
    """The base of an adapter: the one named, else the one in its configuration.

    It is checked against the adapter's manifest, where there is one.

    Raises:
        ArtifactError: the base is not the one that the adapter was trained on.
    """
    base = _resolve_base(model) if model else _recorded_base(adapter)
    trained_on = _trained_on(adapter)
    if trained_on and base.parent.identity != trained_on.identity:
        raise ArtifactError(
            f"{base.location} is not the base that {adapter.location} was trained on "
            f"({trained_on.path})",
            f"use --model {trained_on.path}",
        )
    return base


def with_tokenizer(model: ModelRef, base: ModelRef | None = None) -> ModelRef:
    """What brings the tokenizer of a model: itself, or the base of an adapter that has none.

    Raises:
        ArtifactError: the base is missing, or not the one that the adapter was trained on.
    """
    return model if has_tokenizer(model) else base or base_of(model)


def has_tokenizer(model: ModelRef) -> bool:
    """Whether its own folder has one, which an adapter's may lack."""
    return not model.is_adapter or any(model.path.glob("tokenizer*"))


def _trained_on(adapter: ModelRef) -> Parent | None:
    parents = adapter.manifest.parents if adapter.manifest else ()
    return parents[0] if parents else None


def _recorded_base(adapter: ModelRef) -> ModelRef:
    trained_on = _trained_on(adapter)
    try:
        return _resolve_base(trained_on.path if trained_on else _named_base(adapter))
    except ArtifactError as problem:
        elsewhere = (
            f"`medllm merge --adapter {adapter.ref} --model BASE` takes one that lies elsewhere"
        )
        raise ArtifactError(problem.message, f"{problem.fix}; {elsewhere}") from problem


def _named_base(adapter: ModelRef) -> str:
    """The base that an adapter's configuration names, at the revision that it names."""
    config = adapter_config(adapter)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        message = f"{adapter.location}: adapter_config.json names no base model"
        raise ArtifactError(message, "write its name there")
    return name if not revision or Path(name).exists() else f"{name}@{revision}"


def _resolve_base(ref: str) -> ModelRef:
    return resolve_model(ref, role="base model", kinds=("model", "quantized"))


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
        ArtifactError: the weights do not fit the base or are not those that the adapter's
            configuration describes, or they are no safetensors.
    """
    check_weights(adapter)
    fit_vocabulary(model, adapter.path, adapter_config(adapter))
    try:
        # peft imports gptqmodel where it is installed, which prints a banner
        with console.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing or of another size is named below
            from peft import PeftModel
            from transformers import GenerationConfig

            if (adapter.path / GENERATION).is_file():
                model.generation_config = GenerationConfig.from_pretrained(adapter.location)
            tuned = PeftModel.from_pretrained(
                model, adapter.location, ignore_mismatched_sizes=True
            ).eval()
    except NONSENSE as problem:
        if is_out_of_memory(problem):
            raise
        raise ArtifactError(
            f"{adapter.location}: does not fit its base: {first_line(problem):.200}",
            "name the base it was trained on with --model",
        ) from problem
    check_tensors(adapter.path, tuned)
    return tuned
