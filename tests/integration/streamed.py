"""What an engine streams, read in an event loop of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from medllm.engines.base import AnswersMany, GenerateRequest, Piece


async def read(engine: AnswersMany, request: GenerateRequest) -> list[Piece]:
    """All pieces of an answer."""
    return [piece async for piece in engine.stream(request)]


def run(engine: AnswersMany, work: Callable[[], Awaitable[Any]]) -> Any:
    """What comes of the work; a client is of the event loop that it was opened in."""

    async def and_close() -> Any:
        try:
            return await work()
        finally:
            await engine.disconnect()

    return asyncio.run(and_close())
