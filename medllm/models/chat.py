"""Examples → the exact text and token ids that a model meets.

They are the same in calibration, training, evaluation and serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from medllm.data.example import Example, Message
from medllm.errors import ArtifactError
from medllm.models.rendering import bounded_rendering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Template(Protocol):
    """What rendering needs: an engine is a template, and so is a `TokenizerTemplate`."""

    has_chat_template: bool
    """Whether `render` can be used."""
    eos_token: str
    """The text of the end-of-text token."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as the model expects them, as text with BOS.

        By default it ends where the model's answer begins.
        """

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised.

        `add_special_tokens` puts BOS first where the model has one.
        """


class TokenizerTemplate:
    """A transformers tokenizer as a Template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self.has_chat_template = bool(tokenizer.chat_template)
        self.eos_token = str(tokenizer.eos_token or "")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages through the tokenizer's own chat template.

        Raises:
            DataError: the template refuses them.
            ArtifactError: it is broken.
        """
        with bounded_rendering():
            text = self.tokenizer.apply_chat_template(
                self.turns(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        return str(text)

    def turns(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as chat templates take them."""
        return [{"role": message.role, "content": message.content} for message in messages]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as text: what the model is given, and what it should answer, its end included.

    `add_special_tokens` says whether BOS must still be added: a chat template writes it itself.
    """

    prompt: str
    completion: str
    add_special_tokens: bool

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.completion


def render_example(template: Template, example: Example) -> Rendered:
    """The example through the chat template if there is one, else plain with the end-of-text."""
    if template.has_chat_template and example.prompt:
        prompt = template.render(example.prompt)
        turns = (*example.prompt, Message("assistant", example.completion))
        whole = template.render(turns, add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise ArtifactError(
                "the chat template writes something before an answer that it does not write when "
                "the answer is there, so prompt and answer cannot be told apart",
                "use a template whose conversation begins with its own generation prompt",
            )
        answer = whole.removeprefix(prompt)
        return Rendered(prompt, _with_end(answer, example.completion, template.eos_token), False)
    prompt = "\n".join(message.content for message in example.prompt)
    return Rendered(
        prompt, f"{' ' if prompt else ''}{example.completion}{template.eos_token}", True
    )


def encode_rendered(template: Template, rendered: Rendered) -> tuple[list[int], list[int]]:
    """Token ids of prompt and completion, cut where generation begins, as they are at inference."""
    prompt = template.encode(rendered.prompt, add_special_tokens=rendered.add_special_tokens)
    return prompt, template.encode(rendered.completion, add_special_tokens=False)


def encode_text(template: Template, text: str) -> list[int]:
    """Token ids of rendered text; BOS is added unless the text begins with it already."""
    plain = template.encode(text, add_special_tokens=False)
    whole = template.encode(text, add_special_tokens=True)
    return plain if len(plain) < len(whole) and plain[:1] == whole[:1] else whole


def _with_end(rendered: str, answer: str, eos_token: str) -> str:
    """The answer with an end that can be learnt: the template's own, else the end-of-text token."""
    tail = rendered.rpartition(answer)[2].strip()
    return rendered if tail else rendered.rstrip() + eos_token
