"""What can be done with the keys and values that a transformers model keeps of what it read."""

from typing import Any


def is_attention_alone(cache: Any) -> bool:
    """Whether it holds nothing but keys and values, so that reading can go on from it anywhere.

    Models with a recurrent state (Mamba, Qwen3-Next, Falcon-H1) keep others, or another thing: most
    of them start anew where several tokens follow a state, without a word.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(type(layer) in known for layer in cache.layers)


def can_go_back(cache: Any, tokens: int) -> bool:
    """Whether what it read can be forgotten from some token on, of `tokens` at most.

    A sliding window has dropped what lies behind it, so it must hold them all.
    """
    windows = (getattr(layer, "sliding_window", None) for layer in getattr(cache, "layers", ()))
    return is_attention_alone(cache) and all(tokens < each for each in windows if each)
