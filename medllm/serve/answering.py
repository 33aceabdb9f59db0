"""What surrounds every answer: the limits of its caller, and its line in the audit log."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from medllm.engines.base import GenerateRequest, Piece
from medllm.serve.audit.record import Asked, AuditLog
from medllm.serve.keys import Caller
from medllm.serve.limits import Limits
from medllm.serve.request_queue import RequestQueue


@dataclass(frozen=True)
class Answering:
    """Asks the engine, and sees to what must happen around it."""

    queue: RequestQueue
    audit: AuditLog | None = None
    limits: Limits = field(default_factory=Limits)

    async def answer(
        self, caller: Caller, asked: Asked, request: GenerateRequest
    ) -> AsyncGenerator[Piece, None]:
        """An answer as it comes; the last piece comes when the audit log holds its line.

        Raises:
            ApiError: the caller may not ask now; or the engine failed, or the server ends.
        """
        with self.limits.asking(caller):
            self.limits.count_tokens(caller, request.prompt_tokens or 0)
            async with aclosing(self._recorded(asked, request)) as pieces:
                async for piece in pieces:
                    self.limits.count_tokens(caller, piece.tokens)
                    yield piece

    async def _recorded(
        self, asked: Asked, request: GenerateRequest
    ) -> AsyncGenerator[Piece, None]:
        texts, is_told = list[str](), self.audit is None
        try:
            async with aclosing(self.queue.answer(request)) as pieces:
                async for piece in pieces:
                    texts.append(piece.text)
                    asked.tokens += piece.tokens
                    if piece.finish_reason and self.audit:
                        asked.finish_reason, is_told = piece.finish_reason, True
                        await self.audit.answered(asked, "".join(texts))
                    yield piece
        finally:
            if not is_told and self.audit:
                self.audit.failed(asked, sys.exc_info()[1])
