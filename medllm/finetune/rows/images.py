"""Examples with images → rows for a model that sees; pixels are read batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from medllm import console
from medllm.data.example import Example, Message, read_examples
from medllm.errors import ArtifactError, ConfigError, DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED, Limit, Prompt, RowCounts, collect
from medllm.finetune.rows.image_files import read_image
from medllm.models.chat.template import Rendered, TokenizerTemplate, render_example
from medllm.models.chat.turns import Answers, encode_parts, find_answers
from medllm.models.load import ModelRef, load_processor, read_config

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""What processors call the marks of image tokens; a model with the first lets them see each other
in both directions (Gemma 3), one with the second numbers their places by row and column (Qwen)."""


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
    """What turns examples with images into what the model reads."""

    processor: "ProcessorMixin"
    tokenizer: "PreTrainedTokenizerBase"
    knows_images: bool
    """Whether the chat template places images itself; else they come before the question."""
    inner: str
    """The token that the model puts image features in the place of."""

    @classmethod
    def open(cls, model: ModelRef, tokenizer: "PreTrainedTokenizerBase") -> Self:
        """The processor of a model, with the tokenizer that is trained with.

        Raises:
            ArtifactError: the model sees no images, or its processor is missing.
        """
        config = read_config(model.path)
        if "vision_config" not in config:
            fix = "name a vision-language model, such as google/medgemma-4b-it; or leave images out"
            raise ArtifactError(f"{model.ref} reads no images, and the examples have some", fix)
        processor = load_processor(model.location)
        processor.tokenizer = tokenizer
        knows = _places_images(tokenizer, processor.image_token)
        if tokenizer.chat_template and not knows:
            console.notice("finetune: the chat template knows no images; they come before the text")
        inner = config.get("image_token_id", config.get("image_token_index"))
        token = processor.image_token if inner is None else tokenizer.convert_ids_to_tokens(inner)
        return cls(processor, tokenizer, knows, str(token))

    @property
    def sees_both_ways(self) -> bool:
        """Whether image tokens see those after them, which flash attention cannot do."""
        return TOKEN_TYPES[0] in self.processor.model_input_names

    def load_rows(self, path: Path, limit: Limit) -> "tuple[Dataset, RowCounts]":
        """The rows of a prepared file, and their counts; see `build_rows`.

        Raises:
            DataError: an image is missing, broken or too deep; names the example and the file.
        """
        from datasets import List, Value

        counts = RowCounts()
        ids, text = List(Value("int32")), Value("string")
        columns = {**dict.fromkeys(("input_ids", "labels", *TOKEN_TYPES), ids), "id": text}
        rows = self.build_rows(path, limit, counts)
        return collect(rows, {**columns, "image_paths": List(text)}), counts

    def build_rows(self, path: Path, limit: Limit, counts: RowCounts) -> Iterator[dict[str, Any]]:
        """Rows {input_ids, labels, id, image_paths} and marks of image tokens, empty without any.

        Each image is read once, so that a broken one is found now, and let go again. An image
        cannot be cut: an example that is too long with its images is left out.
        """
        with console.progress("finetune: reading images") as advance:
            for example in read_examples(path):
                paths = [path.parent / image for image in example.images]
                row = self._build_row(example, paths, limit, counts)
                advance(len(paths))
                if row:
                    yield {**row, "id": example.id, "image_paths": list(map(str, paths))}

    def _build_row(
        self, example: Example, paths: Sequence[Path], limit: Limit, counts: RowCounts
    ) -> dict[str, Any] | None:
        """Token ids, labels and marks of image tokens, if the example fits."""
        token = None if self.knows_images else self.processor.image_token
        template = ImageTemplate(self.tokenizer, len(paths), token)
        asked = replace(example, prompt=_with_user(example)) if paths else example
        rendered = render_example(template, asked)
        if rendered.is_plain:
            tokens = self.processor.image_token * len(paths)
            rendered = replace(rendered, prompt=tokens + rendered.prompt)
        self._check_tokens(rendered, example)
        if paths and template.special_tokens.is_marked(rendered.prompt):
            counts.images_spelled += 1
            return None
        answers = find_answers(template, asked, rendered) if limit.turns == "all" else Answers()
        parts = list(encode_parts(template, rendered, answers))
        marks: dict[str, list[int]] = {}
        if paths:  # they stand before the first answer
            first, marks = self._read_images(example, paths, rendered, answers)
            parts[0] = first, 0
        completion = template.encode(rendered.completion, add_special_tokens=False)
        row = limit.fit(Prompt.of(parts, answers.hidden), completion, counts, images=len(paths))
        if row is None:
            return None
        zeros = {name: [0] * (len(row.input_ids) - len(given)) for name, given in marks.items()}
        named = {name: marks[name] + zeros[name] if name in marks else [] for name in TOKEN_TYPES}
        return {**vars(row), **named}

    def _read_images(
        self, example: Example, paths: Sequence[Path], rendered: Rendered, answers: Answers
    ) -> tuple[list[int], dict[str, list[int]]]:
        """Token ids of the prompt up to its first answer, and the marks of its image tokens."""
        end = answers.spans[0][0] if answers.spans else None
        batch = self.processor(
            text=[rendered.prompt[:end]],
            images=[[read_image(path, example.id) for path in paths]],
            add_special_tokens=rendered.is_plain,
        )
        marks = {name: list(batch[name][0]) for name in TOKEN_TYPES if name in batch}
        return list(batch["input_ids"][0]), marks

    def _check_tokens(self, rendered: Rendered, example: Example) -> None:
        """Raise DataError where a text holds what stands for an image, unmarked."""
        outer = self.processor.image_token
        found = rendered.prompt.count(outer) - len(example.images)
        if found or outer in rendered.completion or self.inner in rendered.text.replace(outer, ""):
            message = f"{example.id}: its text holds a token that stands for an image"
            raise DataError(message, f"take {outer} and {self.inner} out of the text")

    def collate(self, rows: Sequence[dict[str, Any]]) -> "dict[str, Tensor]":
        """A batch, padded on the right; padding and image tokens are never learnt.

        Raises:
            DataError: an image has gone since it was first read.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padding = {"labels": IGNORED, "input_ids": self.tokenizer.pad_token_id}
        seen = [row for row in rows if row["image_paths"]]
        marks = (name for name in TOKEN_TYPES if any(row[name] for row in seen))
        tensors = {
            name: [torch.tensor(row[name] or [0] * len(row["input_ids"])) for row in rows]
            for name in ("input_ids", "labels", *marks)
        }
        tensors["attention_mask"] = [torch.ones_like(ids) for ids in tensors["input_ids"]]
        padded = {
            name: pad_sequence(each, batch_first=True, padding_value=padding.get(name, 0))
            for name, each in tensors.items()
        }
        return {**self._pixels(seen), **padded} if seen else padded

    def _pixels(self, rows: Sequence[dict[str, Any]]) -> "dict[str, Tensor]":
        """What the processor makes of the images of a batch, besides tokens."""
        images = [
            [read_image(Path(path), row["id"]) for path in row["image_paths"]] for row in rows
        ]
        text = [self.processor.image_token * len(each) for each in images]
        batch = self.processor(text=text, images=images, padding=True, return_tensors="pt")
        tokens = ("input_ids", "attention_mask", *TOKEN_TYPES)
        return {name: value for name, value in batch.items() if name not in tokens}


def _with_user(example: Example) -> tuple[Message, ...]:
    """The prompt with a user's turn, which images can stand in."""
    asked = any(turn.role == "user" for turn in example.prompt)
    return example.prompt if asked else (*example.prompt, Message("user", ""))


def _places_images(tokenizer: "PreTrainedTokenizerBase", token: str) -> bool:
    """Whether a chat template writes the image's token where a message has an image."""
    template = ImageTemplate(tokenizer, 1)
    try:
        return template.has_chat_template and token in template.render([Message("user", "?")])
    except (DataError, ArtifactError):  # it puts a text and a list together
        return False


def open_vision(
    config: FinetuneConfig, model: ModelRef, tokenizer: "PreTrainedTokenizerBase"
) -> Vision:
    """What reads the images of examples.

    Raises:
        ConfigError: options that do not go with images.
        ArtifactError: the model sees none.
    """
    if config.training.packing:
        message = "finetune.training.packing: examples with images cannot share a row"
        raise ConfigError(message, "leave packing out")
    vision = Vision.open(model, tokenizer)
    if vision.sees_both_ways and config.attn_implementation.startswith("flash_attention"):
        message = (
            f"finetune.attn_implementation: {config.attn_implementation} hides from an image of "
            "this model what comes after it in the same image"
        )
        raise ConfigError(message, "leave it out, or take sdpa")
    return vision
