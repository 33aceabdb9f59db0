"""Answers as they are written, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from medllm.clinical.report import Report
from medllm.engines.base import Piece
from medllm.serve.routes.asked import Work
from medllm.serve.routes.reply import Reply, chat_logprobs, completion_logprobs, told_calls
from medllm.serve.wire import ApiError


@dataclass(slots=True)
class Choice:
    """One answer on its way: its chunks, and where in its text its tokens are."""

    reply: Reply
    index: int
    offset: int = 0

    def chunks(self, piece: Piece, report: Report | None) -> Iterator[dict[str, Any]]:
        """A piece as chunks: text with the logprobs that come with it, calls, the end."""
        logprobs = self._logprobs(piece)
        if piece.text or logprobs:
            yield self.reply.chunk(self.index, logprobs=logprobs, content=piece.text)
        if piece.calls:
            yield self.reply.chunk(self.index, tool_calls=told_calls(piece.calls, in_parts=True))
        if piece.finish_reason:
            yield self.reply.chunk(self.index, piece.finish_reason, report)

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self.reply.chat:
            return chat_logprobs(piece.logprobs)
        told = completion_logprobs(piece.logprobs, self.offset)
        self.offset += sum(len(each.text) for each in piece.logprobs)
        return told


async def events(reply: Reply, works: Sequence[Work]) -> AsyncIterator[str]:
    """The answers, one after another, as server-sent events; what fails is an event, too."""
    try:
        for index, work in enumerate(works):
            told = Choice(reply, index)
            if work.echo:
                yield _event(reply.chunk(index, content=work.echo))
            if reply.chat:
                yield _event(reply.chunk(index, role="assistant", content=""))
            async with aclosing(work.pieces) as pieces:
                async for piece in pieces:
                    for chunk in told.chunks(piece, work.line.report):
                        yield _event(chunk)
                    await asyncio.sleep(0)  # tokens may wait: one who left is noticed between them
    except ApiError as problem:
        yield _event(problem.body)
        return
    if reply.include_usage:
        yield _event(reply.last_chunk([work.line for work in works]))
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"  # ASCII: some clients end lines at U+2028, too
