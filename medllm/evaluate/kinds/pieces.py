"""A prompt that is too long for the context → the same question about each piece of its text."""

from dataclasses import replace

from medllm.data.example import Example
from medllm.models.chat.pieces import JOINT, split_text

__all__ = ["JOINT", "split_item", "split_text"]


def split_item(item: Example, count: int, instruction: str | None) -> list[Example]:
    """The item as so many: its longest message in pieces, the instruction before each of them."""
    if count == 1:
        return [item]
    prompt = item.prompt
    at = max(range(len(prompt)), key=lambda place: len(prompt[place].content))
    first = f"{instruction}{JOINT}" if instruction else ""
    text = prompt[at].content
    asked = first if first and text.startswith(first) else ""
    return [
        replace(
            item,
            prompt=(
                *prompt[:at], replace(prompt[at], content=asked + piece), *prompt[at + 1 :],
            ),
        )
        for piece in split_text(text.removeprefix(asked), count)
    ]  # fmt: skip
