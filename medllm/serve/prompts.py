"""A prompt → token ids that fit into the context; what cannot fit is refused before much work.

Tokenizers may take squared time: llama.cpp's needs 45 s for 100,000 characters that its vocabulary
writes in bytes.
"""

from collections.abc import Sequence

from medllm.engines.base import Engine
from medllm.serve.wire import ApiError

BYTES_PER_TOKEN = 32
"""A prompt with more for each token of the context is refused unread. Single tokens of common
vocabularies write more (128 blanks), but no text consists of them."""
PART_CHARACTERS = 2000
TOKENS_OF_A_CUT = 16
"""More than the tokens that a cut between two parts can add."""


def check_bytes(engine: Engine, param: str, texts: Sequence[str]) -> None:
    """Raise ApiError where texts are too long for the context, however they are tokenized."""
    size, limit = sum(len(text.encode()) for text in texts), engine.context_length
    if size > BYTES_PER_TOKEN * limit:
        raise _too_long(f"the prompt has {size:,} bytes", engine, param)


def encode_prompt(engine: Engine, param: str, text: str, *, add_special_tokens: bool) -> list[int]:
    """The token ids of a prompt, which leave room for an answer of one token at least.

    Raises:
        ApiError: they do not fit into the context, or there are none.
    """
    _check_parts(engine, param, text)
    ids = engine.encode(text, add_special_tokens=add_special_tokens)
    if not ids:
        raise ApiError(400, "the prompt is empty", param=param)
    if len(ids) >= engine.context_length:
        raise _too_long(f"the prompt has {len(ids):,} tokens", engine, param)
    return ids


def _check_parts(engine: Engine, param: str, text: str) -> None:
    """Count by parts, in linear time, whether a text is far too long."""
    count, limit = 0, engine.context_length
    if len(text.encode()) <= limit:
        return
    for begin in range(0, len(text), PART_CHARACTERS):
        part = engine.encode(text[begin : begin + PART_CHARACTERS], add_special_tokens=False)
        count += max(len(part) - TOKENS_OF_A_CUT, 0)
        if count > limit:
            raise _too_long(f"the prompt has more than {limit:,} tokens", engine, param)


def _too_long(what: str, engine: Engine, param: str) -> ApiError:
    holds = (
        f"this model's context holds {engine.context_length:,} tokens, prompt and answer together"
    )
    return ApiError(400, f"{what}; {holds}", "context_length_exceeded", param)
