"""What can be done with the keys and values that a transformers model keeps of what it read."""

import copy
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_attention_alone(cache: Any) -> bool:
    """Whether it holds nothing but keys and values, so that reading can go on from it anywhere.

    Models with a recurrent state (Mamba, Qwen3-Next, Falcon-H1) keep others, or another thing: most
    of them start anew where several tokens follow a state, without a word.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(
        type(layer) in known and layer.is_initialized for layer in cache.layers
    )


def takes_padding(model: Any) -> bool:
    """Whether padding between what was read and what follows changes nothing.

    The model must take positions; and a sliding window, or a chunk of attention, would count it.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = model.config.get_text_config()
    windows = ("sliding_window", "attention_chunk_size")
    takes_positions = "position_ids" in inspect.signature(whole.forward).parameters
    return takes_positions and not any(getattr(config, name, None) for name in windows)


def bytes_kept(cache: Any) -> int:
    """What the keys and values of all layers take."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def copies_of(cache: Any, rows: "int | torch.Tensor") -> Any:
    """A cache to go on from: the only row of another one so many times, or chosen rows of it.

    The other one stays as it is: what a layer adds, it puts into tensors of its own.
    """
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        for name in ("keys", "values"):
            kept = getattr(layer, name)
            is_count = isinstance(rows, int)
            setattr(layer, name, kept.expand(rows, -1, -1, -1) if is_count else kept[rows])
    return made
