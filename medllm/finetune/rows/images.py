"""Examples with images → rows for a model that sees; pixels are read batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.data.example import Example, read_examples
from medllm.errors import ConfigError, DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED, Limit, Prompt, RowCounts, collect
from medllm.models.chat.template import Rendered
from medllm.models.chat.turns import Answers, encode_parts, find_answers
from medllm.models.image_files import read_image
from medllm.models.images import TOKEN_TYPES, Vision, with_user
from medllm.models.load import ModelRef

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class VisionRows:
    """What turns examples with images into rows and batches."""

    vision: Vision

    def load_rows(self, path: Path, limit: Limit) -> "tuple[Dataset, RowCounts]":
        """The rows of a prepared file, and their counts; see `build_rows`.

        Raises:
            DataError: images are missing, broken or too deep; names the examples and the files.
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
        bad: list[DataError] = []
        with console.progress("finetune: reading images") as advance:
            for example in read_examples(path):
                paths = [path.parent / image for image in example.images]
                try:
                    row = self._build_row(with_user(example), paths, limit, counts)
                except DataError as problem:
                    bad.append(problem)
                    continue
                advance(len(paths))
                if row:
                    yield {**row, "id": example.id, "image_paths": list(map(str, paths))}
        if bad:
            told = console.some_of([each.message for each in bad])
            message = f"{path}: rows whose images cannot be read: {told}"
            raise DataError(message, bad[0].fix) if len(bad) > 1 else bad[0]

    def _build_row(
        self, example: Example, paths: Sequence[Path], limit: Limit, counts: RowCounts
    ) -> dict[str, Any] | None:
        """Token ids, labels and marks of image tokens, if the example fits."""
        template, rendered = self.vision.template(len(paths)), self.vision.render(example)
        if paths and template.special_tokens.is_marked(rendered.prompt):
            counts.images_spelled += 1
            return None
        answers = find_answers(template, example, rendered) if limit.turns == "all" else Answers()
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
        images = [read_image(path, example.id) for path in paths]
        prompt, is_plain = rendered.prompt[:end], rendered.is_plain
        return self.vision.encode(prompt, images, add_special_tokens=is_plain)

    def collate(self, rows: Sequence[dict[str, Any]]) -> "dict[str, Tensor]":
        """A batch, padded on the right; padding and image tokens are never trained on.

        Raises:
            DataError: an image has gone since it was first read.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padding = {"labels": IGNORED, "input_ids": self.vision.tokenizer.pad_token_id}
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
        if not seen:
            return padded
        images = [
            [read_image(Path(path), row["id"]) for path in row["image_paths"]] for row in seen
        ]
        return {**self.vision.pixels(images), **padded}


def open_vision_rows(
    config: FinetuneConfig, model: ModelRef, tokenizer: "PreTrainedTokenizerBase"
) -> VisionRows:
    """What reads the images of examples, with the tokenizer that is trained with.

    Raises:
        ConfigError: options that do not go with images.
        ArtifactError: the model sees none.
    """
    if config.training.packing:
        message = "finetune.training.packing: examples with images cannot share a row"
        raise ConfigError(message, "leave packing out")
    vision = Vision.open(model, tokenizer, "finetune")
    if vision.is_bidirectional and config.attn_implementation.startswith("flash_attention"):
        message = (
            f"finetune.attn_implementation: {config.attn_implementation} has no bidirectional "
            "attention within an image, which this model needs"
        )
        raise ConfigError(message, "leave it out, or take sdpa")
    return VisionRows(vision)
