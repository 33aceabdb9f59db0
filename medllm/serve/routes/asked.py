"""What was asked: a prompt that was read, who sent it, and the answer that is to be given."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from medllm.data.example import Message
from medllm.engines.base import GenerateRequest, Piece
from medllm.serve.audit.record import Asked
from medllm.serve.callers.keys import Caller
from medllm.serve.guard import join_pieces
from medllm.serve.routes.reply import Outcome, Reply
from medllm.serve.wire import AnswerRequest, ChatRequest, CompletionRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that was read: what the engine is asked, and who said what in it."""

    request: GenerateRequest
    turns: tuple[Message, ...]
    echo: str = ""
    """Its text, where that is to stand before the answer."""
    images: tuple[bytes, ...] = ()
    """The image files in it."""

    @property
    def unread(self) -> tuple[str, ...]:
        """What of it no rule reads."""
        return ("image: what images show is not reviewed",) if self.images else ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that came in, and who sent it."""

    body: ChatRequest | CompletionRequest
    reply: Reply
    caller: Caller
    path: str


@dataclass(frozen=True, slots=True)
class Work:
    """One answer that is to be given: what the audit log will tell of it, and its pieces."""

    line: Asked
    pieces: AsyncGenerator[Piece, None]
    echo: str = ""

    async def outcome(self) -> Outcome:
        """The whole answer."""
        whole = join_pieces([piece async for piece in self.pieces])
        return Outcome(whole, self.line, self.echo)


def asked_text(body: AnswerRequest, prompt: Prompt) -> dict[str, Any]:
    """What was asked, for an audit log that keeps texts: no image is kept, only its digest."""
    asked: dict[str, Any] = {"prompt": prompt.turns[0].content}
    if isinstance(body, ChatRequest):
        asked = {"messages": [message.as_sent(with_images=False) for message in body.messages]}
        if body.tools:
            asked["tools"] = [tool.model_dump(exclude_none=True) for tool in body.tools]
    return asked | ({"patient_context": body.patient_context} if body.patient_context else {})
