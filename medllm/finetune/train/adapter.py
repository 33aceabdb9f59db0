"""Which parts of a model the adapter is for: its language, and its experts where they are named."""

import copy
import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ConfigError
from medllm.finetune.config import LoraSettings
from medllm.models.adapter_tensors import build_on_paper
from medllm.models.load import ModelRef

ALL_LINEAR = "all-linear"
OF_MODULES = ("exclude_modules", "modules_to_save", "target_modules")
OF_PARAMETERS = "target_parameters"
EXPERTS = ".experts."
"""What the names of their parameters hold."""
MAMBAS = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
"""As PEFT's `_check_lora_target_modules_mamba` lists them."""
NO_LAYER = ("Target modules", "modules were targeted", "modules were excluded")
"""What PEFT says where there is nothing to put an adapter on."""

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig, PreTrainedModel


def build_adapter(lora: LoraSettings, base: "PreTrainedModel") -> "LoraConfig":
    """PEFT's settings; of a vision-language model for the language model, unless asked otherwise.

    What reads its images has layers of the same names, which `exclude_modules: []` lets in.
    """
    from peft import LoraConfig

    settings: dict[str, Any] = lora.model_dump(mode="json")
    if lora.exclude_modules is None:
        outside = filter(None, (_all_but_language(base), _all_unfit(base)))
        settings["exclude_modules"] = "|".join(outside) or None
    adapter = LoraConfig(**settings, task_type="CAUSAL_LM")
    if taken := _taken_for_experts(adapter, base):
        adapter.target_parameters = [*(lora.target_parameters or ()), *taken]
    return adapter


def check_names(lora: LoraSettings, location: str) -> None:
    """Raise ConfigError for a name that nothing in a model has: PEFT passes over it.

    The model is built without its weights, which may take minutes to load.
    """
    wanted = {option: getattr(lora, option) for option in (*OF_MODULES, OF_PARAMETERS)}
    wanted = {option: names for option, names in wanted.items() if names not in (None, ALL_LINEAR)}
    if not wanted:
        return
    base = build_on_paper(location)
    for option, names in wanted.items():
        there = base.named_parameters() if option == OF_PARAMETERS else base.named_modules()
        known = [name for name, _ in there]
        for name in names:
            if not any(_ends_with_one((name,), each) for each in known):
                message = f"finetune.lora.{option}: nothing in this model is called {name}"
                raise ConfigError(message, "name it as the model does, or the end of that")


def _all_but_language(base: "PreTrainedModel") -> str | None:
    """A regular expression for the layers outside the language model; None where all are inside."""
    if not hasattr(base.config, "vision_config"):
        return None
    decoder = base.get_decoder()
    inside = next((name for name, module in base.named_modules() if module is decoder), "")
    return rf"(?!{re.escape(inside)}\.).*" if inside else None


def _all_unfit(base: "PreTrainedModel") -> str | None:
    """A regular expression for linear layers that take no adapter; None where all take one.

    Llama 4's and PhiMoE's choice of experts returns more than a tensor. A Mamba reads the weights
    of `out_proj` and `dt_proj` past an adapter, which PEFT refuses on the first.
    """
    from torch.nn import Linear

    names = {
        re.escape(name.rpartition(".")[2])
        for name, module in base.named_modules()
        if isinstance(module, Linear) and type(module).__name__.endswith("Router")
    }
    if getattr(base.config, "model_type", None) in MAMBAS:
        names |= {"out_proj", "dt_proj"}
        console.notice("finetune: no adapter on out_proj and dt_proj: a Mamba reads past it")
    return rf".*\.({'|'.join(sorted(names))})" if names else None


def _taken_for_experts(adapter: "LoraConfig", base: "PreTrainedModel") -> list[str]:
    """Weights of the layers that PEFT would pass over, as their names are those of old experts.

    Transformers 5 keeps all experts in two parameters. PEFT puts what is asked for `up_proj` on
    these, and so nothing on the dense layers and shared experts (DeepSeek, Qwen 3 Next, GLM 4.5).
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    from torch.nn import Linear

    found = copy.deepcopy(adapter)
    convert_peft_config_for_transformers(found, base, None)
    if found.target_modules == adapter.target_modules:
        return []
    asked, left = adapter.target_modules, set(found.target_modules)
    inside = [
        name
        for name, module in base.named_modules()
        if isinstance(module, Linear)
        and module is not base.get_output_embeddings()
        and not _is_excluded(name, adapter.exclude_modules)
    ]
    wanted = inside if asked == ALL_LINEAR else filter(partial(_ends_with_one, asked), inside)
    return [f"{name}.weight" for name in wanted if not _ends_with_one(left, name)]


def _ends_with_one(ends: Iterable[str], name: str) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)


def _is_excluded(name: str, excluded: "str | Iterable[str] | None") -> bool:
    if isinstance(excluded, str):
        return bool(re.fullmatch(excluded, name))
    return _ends_with_one(excluded or (), name)


def announce_experts(model: "PreTrainedModel") -> None:
    """Say that the experts of a MoE model stay as they are, where none of them is trained."""
    experts = [weight for name, weight in model.named_parameters() if EXPERTS in name]
    if experts and not any(weight.requires_grad for weight in experts):
        console.notice(
            "finetune: the experts of this model are not trained, nor is a router that is no plain "
            "linear layer; everything else that was named is; to train them, name them in "
            "lora.target_parameters"
        )


def architecture_of(model: ModelRef) -> "tuple[Any, PreTrainedConfig]":
    """The class that a model names, None where transformers does not know it, and its settings."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model.location, trust_remote_code=False)
    return getattr(transformers, next(iter(config.architectures or ()), ""), None), config


def announce_unquantized(model: ModelRef, bits: int) -> None:
    """Say how much of a MoE model stays in so many bits where the rest is quantized to 4."""
    import torch

    kind, config = architecture_of(model)
    if kind is None:
        return
    with torch.device("meta"), console.quiet():
        skeleton = kind(config)
    # bitsandbytes quantizes the weights of linear layers; transformers 5 keeps all experts in one
    fused = (w for name, w in skeleton.named_parameters() if EXPERTS in name and w.dim() == 3)
    if numbers := sum(weight.numel() for weight in fused):
        gib = console.rounded(numbers * bits / 8 / 2**30, 3)
        said = f"nf4 quantizes no experts: {gib} GiB of them stay in {bits} bits"
        console.notice(f"finetune: {said}")


def why_refused(lora: LoraSettings, problem: str) -> ConfigError | None:
    """The error of an adapter that PEFT or TRL refuses, in our words; None for another one."""
    where = "finetune.lora.target_modules"
    if any(said in problem for said in NO_LAYER):
        return ConfigError(f"{where}: {lora.target_modules} match no layer", "use all-linear")
    if "Please specify `target_modules`" in problem:
        fix = "all-linear, or the names of layers"
        return ConfigError(f"{where}: PEFT has no defaults for this architecture", fix)
    if "PEFT adapter to `lm_head`" in problem:
        message = f"{where}: an adapter on lm_head would never be trained"
        return ConfigError(message, "train it whole: lora.modules_to_save")
    if "ParamWrapper does not work with" in problem:
        option = "use_dora" if "ora=True" in problem else "lora_dropout"
        message = f"finetune.lora.{option}: this model's experts are parameters, which PEFT cannot"
        fix = (
            f"leave {option} out, or the experts: target_modules: [q_proj, k_proj, v_proj, o_proj]"
        )
        return ConfigError(f"{message} train with it", fix)
    return None
