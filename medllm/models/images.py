"""Images for a model that sees: its processor, and prompts that images stand in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from medllm import console
from medllm.data.example import Example, Message
from medllm.errors import ArtifactError, DataError
from medllm.models.chat.template import Rendered, TokenizerTemplate, render_example
from medllm.models.load import ModelRef, load_processor, read_config

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""What processors call the marks of image tokens; a model with the first lets them see each other
in both directions (Gemma 3), one with the second numbers their places by row and column (Qwen)."""
NEAREST = "google/medgemma-4b-it"


class ImageTemplate(TokenizerTemplate):
    """A tokenizer's chat template, with so many images before the first user's words.

    `token` stands for an image where the template knows none.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", images: int, token: str | None = None
    ) -> None:
        super().__init__(tokenizer)
        self.images = images
        self.token = token

    def turns(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as chat templates take them; that with images in parts."""
        turns = super().turns(messages)
        asked = next((turn for turn in turns if turn["role"] == "user"), None)
        if self.images and asked and self.token:
            asked["content"] = self.token * self.images + asked["content"]
        elif self.images and asked:
            words = [{"type": "text", "text": asked["content"]}] if asked["content"] else []
            asked["content"] = [{"type": "image"}] * self.images + words
        return turns


@dataclass(frozen=True)
class Vision:
    """What turns prompts with images into what a model reads."""

    processor: "ProcessorMixin"
    tokenizer: "PreTrainedTokenizerBase"
    knows_images: bool
    """Whether the chat template places images itself; else they come before the question."""
    inner: str
    """The token that the model puts image features in the place of."""

    @classmethod
    def open(cls, model: ModelRef, tokenizer: "PreTrainedTokenizerBase", verb: str) -> Self:
        """The processor of a model, with a tokenizer that may differ from its own.

        Raises:
            ArtifactError: the model sees no images, or not beside the words; or its processor is
                missing.
        """
        config = read_config(model.path)
        if "vision_config" not in config:
            fix = f"name a vision-language model, such as {NEAREST}; or leave images out"
            raise ArtifactError(f"{model.ref} reads no images, and the examples have some", fix)
        processor = load_processor(model.location)
        if "cross_attention_mask" in processor.model_input_names:  # of each word and image
            message = f"{model.ref} looks at images by cross attention, which is not built here"
            raise ArtifactError(message, f"take one such as {NEAREST}; or leave images out")
        processor.tokenizer = tokenizer
        knows = _places_images(tokenizer, processor.image_token)
        if tokenizer.chat_template and not knows:
            console.notice(f"{verb}: the chat template knows no images; they come before the text")
        inner = config.get("image_token_id", config.get("image_token_index"))
        token = processor.image_token if inner is None else tokenizer.convert_ids_to_tokens(inner)
        return cls(processor, tokenizer, knows, str(token))

    @property
    def is_bidirectional(self) -> bool:
        """Whether image tokens see those after them, which flash attention cannot do."""
        return TOKEN_TYPES[0] in self.processor.model_input_names

    def template(self, images: int) -> ImageTemplate:
        """What renders a conversation with so many images."""
        token = None if self.knows_images else self.processor.image_token
        return ImageTemplate(self.tokenizer, images, token)

    def render(self, example: Example) -> Rendered:
        """The example as text, in which tokens stand for its images; see `with_user`.

        Raises:
            DataError: its text holds a token that stands for an image.
        """
        rendered = render_example(self.template(len(example.images)), example)
        if rendered.is_plain:
            tokens = self.processor.image_token * len(example.images)
            rendered = replace(rendered, prompt=tokens + rendered.prompt)
        self._check_tokens(rendered, example)
        return rendered

    def _check_tokens(self, rendered: Rendered, example: Example) -> None:
        """Raise DataError where a text holds what stands for an image, unmarked."""
        outer = self.processor.image_token
        found = rendered.prompt.count(outer) - len(example.images)
        if found or outer in rendered.completion or self.inner in rendered.text.replace(outer, ""):
            message = f"{example.id}: its text holds a token that stands for an image"
            raise DataError(message, f"take {outer} and {self.inner} out of the text")

    def encode(
        self, prompt: str, images: Sequence["Image"], *, add_special_tokens: bool
    ) -> tuple[list[int], dict[str, list[int]]]:
        """The token ids of a rendered prompt, those of its images too, and the marks of these."""
        batch = self.processor(
            text=[prompt], images=[list(images)], add_special_tokens=add_special_tokens
        )
        marks = {name: list(batch[name][0]) for name in TOKEN_TYPES if name in batch}
        return list(batch["input_ids"][0]), marks

    def pixels(self, images: Sequence[Sequence["Image"]]) -> "dict[str, Tensor]":
        """What the model takes besides tokens for the images of each prompt of a batch."""
        text = [self.processor.image_token * len(each) for each in images]
        batch: Mapping[str, Tensor] = self.processor(
            text=text, images=[list(each) for each in images], padding=True, return_tensors="pt"
        )
        tokens = ("input_ids", "attention_mask", *TOKEN_TYPES)
        return {name: value for name, value in batch.items() if name not in tokens}


def with_user(example: Example) -> Example:
    """An example with a user's turn where it has images, which must stand in one."""
    if not example.images or any(turn.role == "user" for turn in example.prompt):
        return example
    return replace(example, prompt=(*example.prompt, Message("user", "")))


def _places_images(tokenizer: "PreTrainedTokenizerBase", token: str) -> bool:
    """Whether a chat template writes the image's token where a message has an image."""
    template = ImageTemplate(tokenizer, 1)
    try:
        return template.has_chat_template and token in template.render([Message("user", "?")])
    except (DataError, ArtifactError):  # it puts a text and a list together
        return False
