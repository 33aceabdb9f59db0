"""What surrounds every answer: limits, the audit log, metrics, and whether the model is offline."""

import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.servers.chat import told
from medllm.serve.audit.record import Asked, AuditLog
from medllm.serve.callers.keys import Caller
from medllm.serve.callers.limits import Limits
from medllm.serve.feedback.given import GivenAnswers
from medllm.serve.feedback.store import FeedbackStore
from medllm.serve.guard import Guard, GuardedAnswer, join_pieces
from medllm.serve.metrics import Metrics
from medllm.serve.model.canary import Canary
from medllm.serve.model.shadow import Shadow
from medllm.serve.model.switch import Switch
from medllm.serve.request_queue import RequestQueue
from medllm.serve.wire import ApiError

MOST_WAITING = 64


@dataclass(slots=True)
class Around:
    """What a server has around its answers."""

    audit: AuditLog | None = None
    metrics: Metrics | None = None
    guard: Guard | None = None
    """Reviews answers before they go out."""
    may_skip_review: bool = False
    """Whether a request may ask for an answer that is not reviewed."""
    has_page: bool = False
    """Whether the server shows its page."""
    most_waiting: int = MOST_WAITING
    """Requests that may wait for their turn."""
    limits: Limits = field(default_factory=Limits)
    switch: Switch = field(default_factory=Switch)
    """Whether an admin has taken the model offline."""
    given: GivenAnswers = field(default_factory=GivenAnswers)
    """The answers of late, for feedback on them."""
    feedback: FeedbackStore | None = None
    """Where feedback is kept."""
    shadow: Shadow | None = None
    """A second model whose answers are compared."""
    canary: Canary | None = None
    """A second model that answers a share of the keys."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What callers are told of the model beside its name."""


@dataclass(frozen=True)
class Answering:
    """Asks the engine, and sees to what must happen around it."""

    queue: RequestQueue
    around: Around
    requests: set[object] = field(default_factory=set)
    """Those that are answered, and those that wait for it."""

    @property
    def is_up(self) -> bool:
        """Whether the model is loaded."""
        return self.queue.many is None or self.queue.many.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        return self.is_up and not self.around.switch.is_offline

    @property
    def parallel(self) -> int:
        """How many answers the engine writes at once."""
        return self.queue.many.parallel if self.queue.many else 1

    def at_once(self, caller: Caller) -> int:
        """How many answers to one request are written at once."""
        return min(self.parallel, caller.concurrent or self.parallel)

    def check(self, caller: Caller, answers: int, param: str) -> None:
        """Raises ApiError where this caller may not ask for so many answers now, or nobody may.

        `param` is the field by which the request asks for them.
        """
        if self.around.switch.is_offline:
            message = "the model was taken offline; try again later"
            raise ApiError(503, message, "model_offline", headers={"Retry-After": "60"})
        self.around.limits.check(caller, answers, param)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One request meanwhile has a place, from before its prompt is read.

        Raises:
            ApiError: all are taken, by those that are answered and those that may wait.
        """
        if len(self.requests) >= self.parallel + self.around.most_waiting:
            message = f"{self.around.most_waiting} requests wait already; try again later"
            raise ApiError(429, message, "queue_full", headers={"Retry-After": "5"})
        self.requests.add(place := object())
        try:
            yield
        finally:
            self.requests.remove(place)

    async def answer(
        self,
        caller: Caller,
        asked: Asked,
        request: GenerateRequest,
        guarded: GuardedAnswer | None = None,
    ) -> AsyncGenerator[Piece, None]:
        """An answer as it comes; the last piece comes when the audit log holds its line.

        With `guarded` it is reviewed on its way, and `asked` has the report at its end.

        Raises:
            ApiError: the caller may not ask now; or the engine failed, or the server ends.
        """
        limits = self.around.limits
        with limits.asking(caller):
            limits.count_tokens(caller.name, asked.read_tokens)
            async with aclosing(self._counted(asked, request, guarded)) as pieces:
                async for piece in pieces:
                    limits.count_tokens(caller.name, piece.tokens)
                    yield piece

    async def _counted(
        self, asked: Asked, request: GenerateRequest, guarded: GuardedAnswer | None
    ) -> AsyncGenerator[Piece, None]:
        metrics = self.around.metrics
        try:
            async with aclosing(self._recorded(asked, request, guarded)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            if metrics:
                outcome = _outcome(asked, sys.exc_info()[1])
                metrics.ended(asked.route, outcome, time.monotonic() - asked.began)
                metrics.tokens("prompt", asked.read_tokens)
                metrics.tokens("answer", asked.tokens)
                if asked.is_canary:
                    metrics.of_canary(outcome, asked.report)
                if asked.report:
                    metrics.reviewed(asked.report)
                if asked.finish_reason:
                    metrics.answered(asked.prompt_tokens, asked.tokens, len(asked.findings))

    async def _recorded(
        self, asked: Asked, request: GenerateRequest, guarded: GuardedAnswer | None
    ) -> AsyncGenerator[Piece, None]:
        audit = self.around.audit
        parts, is_told = list[Piece](), audit is None
        try:
            async with aclosing(self._written(asked, request)) as written:
                own = asked.watch.over(written) if asked.watch else written
                pieces = guarded.pieces(own) if guarded else own
                async for piece in pieces:
                    parts.append(piece)
                    asked.tokens += piece.tokens
                    asked.finish_reason = piece.finish_reason
                    asked.report = guarded.report if guarded else None
                    asked.calls |= {call.index for call in piece.calls}
                    if piece.finish_reason and audit:
                        is_told = True
                        await audit.answered(asked, said_in(parts))
                    if piece.finish_reason:
                        self._remember(asked, said_in(parts))
                        if asked.watch:
                            asked.watch.end()
                    yield piece
        finally:
            if not is_told and audit:
                audit.failed(asked, sys.exc_info()[1], said_in(parts))

    async def _written(self, asked: Asked, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        """What the engine writes: a review may hold its first token back to the end."""
        metrics, is_first = self.around.metrics, True
        async with aclosing(self.queue.answer(request)) as pieces:
            async for piece in pieces:
                if metrics and is_first and piece.tokens:
                    metrics.first_token(time.monotonic() - asked.began)
                    is_first = False
                if piece.prompt_tokens is not None:
                    asked.prompt_tokens = piece.prompt_tokens
                    self.around.limits.count_tokens(asked.caller, asked.read_tokens)
                yield piece

    def _remember(self, asked: Asked, text: str) -> None:
        is_clean = bool(asked.report and not asked.report.risk_level)
        given = self.around.given
        given.add(asked.id, asked.caller, asked.question, text, is_clean=is_clean)


def said_in(parts: Sequence[Piece]) -> str:
    """An answer as one text, with a line for each call below it."""
    whole = join_pieces(parts)
    return told(whole.text, whole.calls)


def _outcome(asked: Asked, problem: BaseException | None) -> str:
    """How an answer ended: the status that the caller got in its place, or that nobody waited."""
    return str(problem.status) if isinstance(problem, ApiError) else asked.finish_reason or "left"
