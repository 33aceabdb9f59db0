"""What an engine streams."""

from medllm.engines.base import AnswersMany, GenerateRequest, Piece


async def read(engine: AnswersMany, request: GenerateRequest) -> list[Piece]:
    """All pieces of an answer."""
    return [piece async for piece in engine.stream(request)]
