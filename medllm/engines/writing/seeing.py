"""A vision-language model that answers about images, on the transformers engine."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.writing.stopping import until_stop
from medllm.errors import DataError
from medllm.models.image_files import read_image

if TYPE_CHECKING:
    from medllm.engines.transformers import TransformersEngine
    from medllm.models.images import Vision


class SeeingEngine:
    """Answers about images, one after another and greedily; others as the engine inside does."""

    name = "transformers"

    def __init__(self, inside: "TransformersEngine", vision: "Vision") -> None:
        self.inside = inside
        self.vision = vision
        self.context_length = inside.context_length
        self.unused_settings: Mapping[str, Any] = inside.unused_settings

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer: token by token without images, at once with some.

        Raises:
            DataError: an image cannot be read; prompt and images leave no room for an answer; or
                an answer about images is to be drawn.
        """
        if not request.images:
            yield from self.inside.generate(request)
            return
        if not request.sampling.is_greedy:
            raise DataError("answers about images are greedy here", "leave the temperature at 0")
        ids, inputs = self._read(request)
        room = self.context_length - len(ids)
        if room < 1:
            raise DataError("prompt and images leave no room for an answer", "raise n_ctx")
        yield from until_stop([self._write(ids, inputs, min(request.sampling.max_tokens, room))],
                              request.sampling.stop)  # fmt: skip

    def close(self) -> None:
        """Free the model's memory."""
        self.inside.close()

    def _read(self, request: GenerateRequest) -> tuple[list[int], dict[str, Any]]:
        """The token ids of a conversation with its images, and what the model takes besides."""
        import torch

        try:
            images = [read_image(path, "the prompt") for path in request.images]
        except DataError as problem:
            raise DataError("an image is missing or cannot be read", problem.fix) from problem
        template = self.vision.template(len(images))
        text = template.render(request.messages)
        ids, marks = self.vision.encode(text, images, add_special_tokens=False)
        device = self.inside.model.device
        inputs = {name: torch.tensor([values], device=device) for name, values in marks.items()}
        for name, pixels in self.vision.pixels([images]).items():
            inputs[name] = pixels.to(device)
        return ids, inputs

    def _write(self, ids: list[int], inputs: Mapping[str, Any], most: int) -> Piece:
        import torch

        model = self.inside.model
        prompt = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            made = model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=most,
                do_sample=False, **inputs,
            )  # fmt: skip
        written = made[0, len(ids) :].tolist()
        ends = model.generation_config.eos_token_id
        is_end = bool(written) and written[-1] in (ends if isinstance(ends, list) else [ends])
        text = self.vision.tokenizer.decode(written, skip_special_tokens=True)
        return Piece(str(text), len(written), "stop" if is_end else "length")
