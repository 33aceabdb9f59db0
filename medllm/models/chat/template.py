"""Examples → the exact text and token ids that a model meets.

They are the same in calibration, training, evaluation and serving.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from medllm.data.example import Example, Message
from medllm.errors import ArtifactError
from medllm.models.chat.apart import ApartEncoder, special_tokens_of
from medllm.models.chat.rendering import bounded_rendering
from medllm.models.chat.special_tokens import SpecialTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@runtime_checkable
class Template(Protocol):
    """What rendering needs: engines that have token ids, and a `TokenizerTemplate`."""

    has_chat_template: bool
    """Whether `render` can be used."""
    eos_token: str
    """The text of the end-of-text token."""
    special_tokens: SpecialTokens
    """The tokens that mean something in a rendered text, and nothing in a message."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as the model expects them, as text with BOS.

        By default it ends where the model's answer begins. Special tokens that a message spells are
        marked, so that `encode` reads them as text.
        """

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised unless they are marked.

        `add_special_tokens` puts BOS first where the model has one.
        """


class TokenizerTemplate:
    """A transformers tokenizer as a Template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self.has_chat_template = bool(tokenizer.chat_template)
        self.eos_token = str(tokenizer.eos_token or "")
        self.special_tokens = special_tokens_of(tokenizer)
        self._apart = ApartEncoder(tokenizer, self.special_tokens)

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
        mark = self.special_tokens.mark
        return [{"role": message.role, "content": mark(message.content)} for message in messages]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        if self.special_tokens.is_marked(text):
            return self._apart.encode(text, add_special_tokens=add_special_tokens)
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as text: what the model is given, and what it should answer, its end included.

    `add_special_tokens` says whether BOS must still be added: a chat template writes it itself.
    Special tokens that its messages spell are marked (`special_tokens`).
    """

    prompt: str
    completion: str
    add_special_tokens: bool
    tail: str = ""
    """What the chat template writes after an answer."""

    @property
    def is_plain(self) -> bool:
        """Whether no chat template rendered it."""
        return self.add_special_tokens

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.completion


def render_example(template: Template, example: Example) -> Rendered:
    """The example through the chat template if there is one, else plain with the end-of-text."""
    answer = template.special_tokens.mark(example.completion)
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
        rendered = whole.removeprefix(prompt)
        tail = _after(rendered, answer)
        return Rendered(prompt, _with_end(template, rendered, tail), False, tail)
    prompt = join_plain(template, example.prompt)
    return Rendered(prompt, f"{' ' if prompt else ''}{answer}{template.eos_token}", True)


def join_plain(template: Template, messages: Sequence[Message]) -> str:
    """The messages for a model without a chat template: their texts, a line for each."""
    return "\n".join(template.special_tokens.mark(message.content) for message in messages)


def as_given(template: Template, text: str) -> str:
    """A raw prompt, to be encoded: whoever gives one may write the turns of a chat template.

    Where there is no chat template there are no turns, and special tokens are text, as in training.
    """
    return text if template.has_chat_template else template.special_tokens.mark(text)


def encode_rendered(template: Template, rendered: Rendered) -> tuple[list[int], list[int]]:
    """Token ids of prompt and completion, cut where generation begins, as they are at inference."""
    prompt = template.encode(rendered.prompt, add_special_tokens=rendered.add_special_tokens)
    return prompt, template.encode(rendered.completion, add_special_tokens=False)


def encode_text(template: Template, text: str) -> list[int]:
    """Token ids of rendered text; BOS is added unless the text begins with it already."""
    plain = template.encode(text, add_special_tokens=False)
    whole = template.encode(text, add_special_tokens=True)
    return plain if len(plain) < len(whole) and plain[:1] == whole[:1] else whole


def end_of(template: Template, tail: str) -> str | None:
    """The special token in what a chat template writes after an answer, at which engines stop."""
    return template.special_tokens.first(tail)


def _after(rendered: str, answer: str) -> str:
    """What stands after an answer, from which a template may have stripped white space."""
    return rendered.rpartition(answer.strip())[2]


def _with_end(template: Template, rendered: str, tail: str) -> str:
    """The answer with an end to train on: the template's own, else the end-of-text token.

    An end that is no special token is left out: nothing that answers would stop at it.
    """
    if end_of(template, tail):
        return rendered
    return rendered.removesuffix(tail).rstrip() + template.eos_token
