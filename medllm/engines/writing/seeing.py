"""A vision-language model that answers about images, on the transformers engine."""

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medllm.data.example import Message
from medllm.engines.base import GenerateRequest, Piece, Sampling
from medllm.engines.sampling import UnfitSampling
from medllm.engines.servers.chat import Chat, UnfitChat
from medllm.engines.transformers import TransformersEngine
from medllm.engines.writing.stopping import until_stop
from medllm.errors import DataError
from medllm.models.chat.prompts import check_bytes, check_room
from medllm.models.image_files import read_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medllm.models.images import Vision

HEEDED = {"max_tokens", "stop", "seed"}
"""What `Sampling` may name where images are: the seed of a greedy answer changes nothing."""


def check_greedy(sampling: Sampling) -> None:
    """Raise UnfitSampling for what an answer about images does not heed."""
    if other := sorted(sampling.named.keys() - HEEDED):
        message = f"{other[0]}: answers about images are greedy here"
        raise UnfitSampling(message, f"leave {other[0]} out")


class SeeingEngine:
    """Answers about images, one after another and greedily; others as the engine inside does."""

    name = "transformers"

    def __init__(self, inside: TransformersEngine, vision: "Vision") -> None:
        self.inside = inside
        self.vision = vision
        self.context_length = inside.context_length
        self.unused_settings: Mapping[str, Any] = inside.unused_settings

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer: token by token without images, at once with some.

        Raises:
            UnfitSampling: an answer about images is to be drawn, or penalized.
            DataError: an image cannot be read; prompt and images leave no room for an answer.
        """
        if not request.images:
            yield from self.inside.generate(request)
            return
        check_greedy(request.sampling)
        ids, inputs = self._read(request)
        room = self.context_length - len(ids)
        if room < 1:
            raise DataError("prompt and images leave no room for an answer", "raise n_ctx")
        yield from until_stop([self._write(ids, inputs, min(request.sampling.max_tokens, room))],
                              request.sampling.stop)  # fmt: skip

    def close(self) -> None:
        """Free the model's memory."""
        self.inside.close()

    def encode(
        self, messages: Sequence[Message], images: Sequence["Image"]
    ) -> tuple[list[int], dict[str, list[int]]]:
        """The token ids of a conversation with its images, and the marks of these."""
        text = self.vision.template(len(images)).render(messages)
        return self.vision.encode(text, images, add_special_tokens=False)

    def _read(self, request: GenerateRequest) -> tuple[list[int], dict[str, Any]]:
        """The token ids of a conversation with its images, and what the model takes besides."""
        import torch

        try:
            images = [read_image(file, "the prompt") for file in request.images]
        except DataError as problem:
            raise DataError("an image is missing or cannot be read", problem.fix) from problem
        ids, marks = self.encode(request.messages, images)
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


class SeeingChats(TransformersEngine):
    """A model in this process that reads the images of a chat, too."""

    reads_images = True

    def __init__(
        self,
        vision: "Vision",
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        n_ctx: int | None = None,
    ) -> None:
        """`vision` has a tokenizer of its own; the rest is as of `TransformersEngine`."""
        super().__init__(model, tokenizer, n_ctx)
        self._seeing = SeeingEngine(self, vision)
        self._turn = threading.Lock()  # a processor is asked by one thread at a time

    def read_chat(self, chat: Chat, sampling: Sampling) -> list[int]:
        """The token ids of a conversation, those of its images too.

        Raises:
            UnfitPrompt: it leaves no room for an answer.
            UnfitSampling: an answer about images is to be drawn, or penalized.
            UnfitChat: there are tools in it, or images elsewhere than in the user's first message.
            DataError: an image cannot be read.
        """
        check_greedy(sampling)
        messages, files = parts_of(chat)
        check_bytes((turn.role + turn.content for turn in messages), self.context_length)
        images = [read_image(file, "messages") for file in files]
        with self._turn:
            ids, _ = self._seeing.encode(messages, images)
        check_room(ids, self.context_length)
        return ids

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer; about images all at once. Raises as `TransformersEngine` and as read_chat."""
        if request.chat is None:
            yield from super().generate(request)
            return
        messages, files = parts_of(request.chat)
        asked = replace(request, prompt=(), chat=None, messages=messages, images=files)
        with self._turn:
            yield from self._seeing.generate(asked)


def parts_of(chat: Chat) -> tuple[tuple[Message, ...], tuple[bytes, ...]]:
    """The texts of a conversation, and the image files in the user's first message.

    Raises:
        UnfitChat: there are tools in it, or images elsewhere, where no training had any.
    """
    messages, images = list[Message](), list[bytes]()
    for turn in chat.messages:
        if chat.tools or turn["role"] == "tool" or turn.get("tool_calls"):
            message = "tools: this engine reads no calls in what a model writes"
            raise UnfitChat("tools" if chat.tools else "messages", message, "leave them out")
        content = turn["content"]
        parts: list[dict[str, Any]]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        shown = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if shown and any(each.role == "user" for each in messages):
            message = "images: this model reads them in the user's first message alone"
            raise UnfitChat("messages", message, "move them there, or begin a conversation anew")
        images += [base64.b64decode(url.partition(",")[2]) for url in shown]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        messages.append(Message(turn["role"], text))
    return tuple(messages), tuple(images)
