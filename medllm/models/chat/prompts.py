"""A conversation, or a text → token ids that leave room for an answer.

What cannot fit is refused before much work. Tokenizers may take squared time: llama.cpp's needs
45 s for 100,000 characters that its vocabulary writes in bytes.
"""

from collections.abc import Iterable, Sequence

from medllm.data.example import Message
from medllm.errors import DataError
from medllm.models.chat.template import Template, as_given, join_plain

BYTES_PER_TOKEN = 32
"""A prompt with more for each token of the context is refused unread. Single tokens of common
vocabularies write more (128 blanks), but no text consists of them."""
PART_CHARACTERS = 2000
TOKENS_OF_A_CUT = 16
"""More than the tokens that a cut between two parts can add."""

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""The token ids of a context, and of what follows it."""


class UnfitPrompt(DataError):
    """A prompt that is empty, or leaves no room for an answer."""

    def __init__(self, size: str | None, context_length: int, excess: int | None = None) -> None:
        """Take a size such as "1,200 tokens", or None where the prompt is empty.

        `excess` are the tokens that must go, where their number is known.
        """
        self.size, self.excess = size, excess
        self.context_length = context_length
        if size is None:
            super().__init__("the prompt is empty", "give a prompt of at least one token")
        else:
            message = f"the prompt has {size}, the context holds {context_length:,} tokens"
            super().__init__(message, "shorten the prompt or raise n_ctx")


def encode_messages(
    template: Template, messages: Sequence[Message], context_length: int
) -> list[int]:
    """Token ids of a conversation, up to where the model's answer begins, as in training.

    Raises:
        UnfitPrompt: there are none, or they leave no room.
        DataError: the chat template refuses the messages.
    """
    check_bytes((turn.role + turn.content for turn in messages), context_length)
    if template.has_chat_template:
        return _encode(template, template.render(messages), context_length, is_rendered=True)
    return _encode(template, join_plain(template, messages), context_length, is_rendered=False)


def encode_raw(template: Template, text: str, context_length: int) -> list[int]:
    """Token ids of a text that a model goes on from; its author may write a template's turns.

    Raises:
        UnfitPrompt: there are none, or they leave no room.
    """
    check_bytes([text], context_length)
    return _encode(template, as_given(template, text), context_length, is_rendered=False)


def check_bytes(texts: Iterable[str], context_length: int) -> None:
    """Raise UnfitPrompt where texts are too long for the context, however they are tokenized."""
    size = sum(map(_count_bytes, texts))
    if size > BYTES_PER_TOKEN * context_length:
        raise UnfitPrompt(f"{size:,} bytes", context_length)


def check_room(prompt: Sequence[int], context_length: int) -> None:
    """Raise UnfitPrompt where a prompt is empty or leaves no room for an answer."""
    if not prompt:
        raise UnfitPrompt(None, context_length)
    if len(prompt) >= context_length:
        excess = len(prompt) - context_length + 1  # an answer has one at least
        raise UnfitPrompt(f"{len(prompt):,} tokens", context_length, excess)


def cut_alike(pairs: Sequence[Pair], context_length: int) -> tuple[list[Pair], int]:
    """The pairs, with all contexts cut alike at their beginning so that the longest pair fits.

    The last token of a pair is not read, so it needs no room. Also returns how many tokens each
    context lost.
    """
    longest = max(len(context) + len(ending) - 1 for context, ending in pairs)
    cut = max(longest - context_length, 0)
    return [(context[cut:], ending) for context, ending in pairs], cut


def _encode(template: Template, text: str, context_length: int, *, is_rendered: bool) -> list[int]:
    _check_parts(template, text, context_length)
    ids = template.encode(text, add_special_tokens=not is_rendered)
    check_room(ids, context_length)
    return ids


def _check_parts(template: Template, text: str, context_length: int) -> None:
    """Count by parts, in linear time, whether a text is far too long."""
    if _count_bytes(text) <= context_length:
        return
    count = 0
    for begin in range(0, len(text), PART_CHARACTERS):
        part = template.encode(text[begin : begin + PART_CHARACTERS], add_special_tokens=False)
        count += max(len(part) - TOKENS_OF_A_CUT, 0)
        if count > context_length:
            raise UnfitPrompt(f"more than {context_length:,} tokens", context_length)


def _count_bytes(text: str) -> int:
    return len(text.encode(errors="replace"))  # engines, too, replace half of a surrogate pair
