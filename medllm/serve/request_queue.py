"""The answers of one engine: one at a time, in the order the requests came."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from medllm.engines.base import GenerateRequest, Generates, Piece
from medllm.serve.refusals import api_error, log_bug
from medllm.serve.wire import ApiError

Pieces = asyncio.Queue[Piece | ApiError | None]


@dataclass(frozen=True)
class RequestQueue:
    """Whatever is asked of one engine passes here; the engine itself need not be thread-safe."""

    engine: Generates
    writer: Executor = field(default_factory=lambda: ThreadPoolExecutor(1))
    reader: Executor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """A thread for prompts, which may be read while an answer is written; tokenizers are not
    thread-safe."""
    unfinished: set[Pieces] = field(default_factory=set)

    async def read(self, read_prompt: Callable[[], GenerateRequest]) -> GenerateRequest:
        """A request whose prompt is read."""
        return await asyncio.get_running_loop().run_in_executor(self.reader, read_prompt)

    async def answer(
        self, request: GenerateRequest, stopped: threading.Event
    ) -> AsyncIterator[Piece]:
        """An answer as it comes, until `stopped`.

        It waits for its turn, then runs from beginning to end in the one thread of the writer
        (torch keeps its modes per thread), whether or not anyone still reads. Once `stopped`, it
        ends with the step of the engine that it is at.

        Raises:
            ApiError: the engine failed, or the server ends.
        """
        loop = asyncio.get_running_loop()
        pieces: Pieces = asyncio.Queue()

        def write() -> None:
            try:
                for piece in () if stopped.is_set() else self.engine.generate(request):
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
                    if stopped.is_set():
                        return
            finally:
                loop.call_soon_threadsafe(pieces.put_nowait, None)

        work = loop.run_in_executor(self.writer, write)
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
            stopped.set()
            self.unfinished.discard(pieces)

    def end(self) -> None:
        """End all answers that are not finished, and tell their readers."""
        for pieces in self.unfinished:
            pieces.put_nowait(ApiError(503, "the server is stopping; this answer is incomplete"))
