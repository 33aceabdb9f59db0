"""Generation settings of a model's files, which decide nothing here unless somebody names them."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from medllm import console

if TYPE_CHECKING:
    from transformers import GenerationConfig

NEUTRAL: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
                           "repetition_penalty": 1.0, "num_beams": 1}  # fmt: skip
"""Values that ask for nothing."""
NO_SAMPLING = frozenset({"max_length", "max_new_tokens", "use_cache", "cache_implementation",
                         "transformers_version", "output_attentions", "output_hidden_states",
                         "return_dict_in_generate", "trust_remote_code"})  # fmt: skip
"""Settings that choose no token; neither do those that name special tokens."""


def unused_settings(config: "GenerationConfig | None") -> dict[str, Any]:
    """What a `generation_config.json` asks for and a request does not, such as top_k: 20."""
    return {
        name: value
        for name, value in (config.to_diff_dict() if config else {}).items()
        if not name.startswith("_")
        and not name.endswith("_token_id")
        and name not in NO_SAMPLING
        and value is not None
        and value != NEUTRAL.get(name)
    }


def announce_unused(verb: str, settings: Mapping[str, Any]) -> None:
    """Say what no answer depends on, though the model's files might make one think so."""
    if settings:
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        console.notice(f"{verb}: not used, though the model's generation settings say so: {told}")


def neutral_settings(ends: Collection[int], pad_token: int | None) -> "GenerationConfig":
    """Settings that say what ends an answer, and leave all else to the request."""
    from transformers import GenerationConfig

    return GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=pad_token or 0)
