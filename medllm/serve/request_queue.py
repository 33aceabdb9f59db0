"""The answers of one engine: as many at once as it can write, in the order they were asked for."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from medllm.engines.base import Answers, AnswersMany, GenerateRequest, Piece
from medllm.measures.logprobs import write_with_logprobs
from medllm.serve.refusals import api_error, log_bug
from medllm.serve.wire import ApiError

Read = TypeVar("Read")
Pieces = asyncio.Queue[Piece | ApiError | None]


@dataclass(frozen=True)
class RequestQueue:
    """Whatever is asked of one engine passes here; one in this process need not be thread-safe."""

    engine: Answers
    writer: Executor = field(default_factory=lambda: ThreadPoolExecutor(1))
    reader: Executor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """A thread for prompts, which may be read while an answer is written; tokenizers are not
    thread-safe."""
    unfinished: set[Pieces] = field(default_factory=set)

    @cached_property
    def many(self) -> AnswersMany | None:
        """The engine, if it writes several answers at once; looked at once, for that takes long."""
        return self.engine if isinstance(self.engine, AnswersMany) else None

    async def read(self, read_prompt: Callable[[], Read]) -> Read:
        """What comes of reading a prompt."""
        return await asyncio.get_running_loop().run_in_executor(self.reader, read_prompt)

    async def answer(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        """An answer as it comes; whoever ends the iterator ends the work soon.

        Raises:
            ApiError: the engine failed, or the server ends.
        """
        pieces: Pieces = asyncio.Queue()
        work, stop = self._begin(request, pieces)
        # An error is taken in any case, else asyncio logs it, and with it perhaps text.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.unfinished.add(pieces)
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, ApiError):
                    raise piece
                yield piece
            await asyncio.wait([work])
            if problem := work.exception():
                log_bug(problem)
                raise api_error(problem) from problem
        finally:
            stop()
            self.unfinished.discard(pieces)

    def end(self) -> None:
        """End all answers that are not finished, and tell their readers."""
        message, soon = "the server is stopping; this answer is incomplete", {"Retry-After": "5"}
        for pieces in self.unfinished:
            pieces.put_nowait(ApiError(503, message, "server_stopping", headers=soon))

    def _begin(
        self, request: GenerateRequest, pieces: Pieces
    ) -> tuple["asyncio.Future[None]", Callable[[], object]]:
        """The work that fills `pieces`, and what stops it."""
        if self.many:
            task = asyncio.create_task(_stream(self.many, request, pieces))
            return task, task.cancel
        return self._write(request, pieces)

    def _write(
        self, request: GenerateRequest, pieces: Pieces
    ) -> tuple["asyncio.Future[None]", Callable[[], object]]:
        """Wait for a turn, then run from beginning to end in the one thread of the writer.

        torch keeps its modes per thread. Once stopped, an answer ends with the step of the engine
        that it is at.
        """
        loop = asyncio.get_running_loop()
        engine, stopped = self.engine, threading.Event()
        assert not isinstance(engine, AnswersMany)

        def write() -> None:
            try:
                for piece in () if stopped.is_set() else write_with_logprobs(engine, request):
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
                    if stopped.is_set():
                        return
            finally:
                loop.call_soon_threadsafe(pieces.put_nowait, None)

        return loop.run_in_executor(self.writer, write), stopped.set


async def _stream(engine: AnswersMany, request: GenerateRequest, pieces: Pieces) -> None:
    try:
        async for piece in engine.stream(request):
            pieces.put_nowait(piece)
    finally:
        pieces.put_nowait(None)
