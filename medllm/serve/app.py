"""The OpenAI-compatible HTTP face of one engine: chat, completions, models and health.

Nothing is answered without the key but `/health`; no text of a request or an answer reaches a log.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from medllm.engines.base import Answers, GenerateRequest, Piece
from medllm.engines.prompts import ask_messages, ask_text, takes_messages
from medllm.errors import MedllmError
from medllm.models.chat.prompts import BYTES_PER_TOKEN, UnfitPrompt
from medllm.serve.answering import Answering, Around
from medllm.serve.audit.record import Asked
from medllm.serve.body import read_body
from medllm.serve.callers.access import CALLER, Access, Origins
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller
from medllm.serve.guard import GuardedAnswer
from medllm.serve.metrics import Counted
from medllm.serve.page.shell import PLACES, read_page
from medllm.serve.plain import PlainRequest, as_plain
from medllm.serve.refusals import explain, refuse_prompt
from medllm.serve.request_queue import RequestQueue
from medllm.serve.wire import AnswerRequest, ApiError, ChatRequest, CompletionRequest, Reply

BODY_BYTES_PER_BYTE = 6  # JSON may write a byte of text so: \u0041
BODY_BYTES = 2**18  # for all that is not text in the prompt
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions; chats have none
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
NO_TELEMETRY: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)
"""FastAPI hands exceptions, and so perhaps text, to any OpenTelemetry exporter it finds."""


def build_app(
    engine: Answers,
    *,
    model_id: str,
    callers: Callers,
    max_tokens: int,
    around: Around | None = None,
) -> FastAPI:
    """The application that answers for `engine` under the name `model_id`.

    Where `callers` have keys, everything but `/health` needs `Authorization: Bearer <key>`. Without
    keys, only requests that name a loopback host are answered, and none of web pages but those that
    `callers` names. `max_tokens` is the most one answer may have, `around` what happens beside it.
    The application's `state.end_answers()` ends the answers that are running.
    """
    queue, around = RequestQueue(engine), around or Around()
    answering = Answering(queue, around)
    endpoints = Endpoints(answering, model_id, max_tokens)
    app = FastAPI(openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    app.state.end_answers = queue.end
    app.add_middleware(Access, callers=callers, shown=PLACES if around.has_page else ())
    app.add_middleware(Origins, callers=callers)  # the last one added is asked first
    if around.metrics:
        around.metrics.watch(lambda: len(queue.unfinished), lambda: answering.is_ready)
        app.add_middleware(Counted, metrics=around.metrics)
    for kind in (ApiError, HTTPException, MedllmError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, explain)
    read = partial(app.api_route, methods=["GET", "HEAD"])
    read("/health")(endpoints.health)
    read("/ready")(endpoints.ready)
    app.post("/v1/model/offline")(endpoints.take_offline)
    app.post("/v1/model/online")(endpoints.take_online)
    read("/v1/models")(endpoints.list_models)
    read("/v1/models/{model:path}")(endpoints.describe_model)
    app.post("/v1/chat/completions")(endpoints.chat)
    app.post("/v1/completions")(endpoints.complete)
    app.post("/generate")(endpoints.generate)
    for place in PLACES if around.has_page else ():
        read(place)(partial(read_page, place))
    return app


@dataclass(frozen=True)
class Endpoints:
    """What each address does with a request: check it, ask the engine, word the answer."""

    answering: Answering
    model_id: str
    max_tokens: int

    @property
    def engine(self) -> Answers:
        """What answers."""
        return self.answering.queue.engine

    async def health(self) -> dict[str, str]:
        """That the server is there, and nothing else: anyone may ask."""
        return {"status": "ok"}

    async def ready(self) -> Response:
        """Whether a request would be answered now: 200 or 503; anyone may ask."""
        is_ready = self.answering.is_ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def take_offline(self, request: Request) -> dict[str, bool]:
        """Refuse requests from now on, and finish what runs; for admins."""
        return self._switch(request, is_offline=True)

    async def take_online(self, request: Request) -> dict[str, bool]:
        """Take requests again; for admins."""
        return self._switch(request, is_offline=False)

    def _switch(self, request: Request, *, is_offline: bool) -> dict[str, bool]:
        caller: Caller = request.scope[CALLER]
        if caller.role != "admin":
            raise ApiError(403, "only an admin's key may do this", "not_an_admin")
        self.answering.around.is_offline = is_offline
        if audit := self.answering.around.audit:
            audit.switched(caller.name, is_offline=is_offline)
        return {"online": not is_offline}

    async def list_models(self) -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [await self.describe_model(self.model_id)]}

    async def describe_model(self, model: str) -> dict[str, Any]:
        """The model, if it has this name."""
        self._check_model(model)
        known = {"id": model, "object": "model", "created": 0, "owned_by": "medllm"}
        return known | {"max_model_len": self.engine.context_length}  # vLLM's name for it

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        body = await read_body(request, ChatRequest, self._body_bytes)
        return await self._chat(body, request, "messages")

    async def generate(self, request: Request) -> Response:
        """The answer to one question, and what its review found, without OpenAI's envelope."""
        began = time.monotonic()
        asked = await read_body(request, PlainRequest, self._body_bytes)
        answer = await self._chat(asked.as_chat(self.model_id), request, "question")
        return JSONResponse(as_plain(json.loads(bytes(answer.body)), began))

    async def _chat(self, body: ChatRequest, request: Request, param: str) -> Response:
        if not takes_messages(self.engine):
            text = "this model has no chat template; use /v1/completions"
            raise ApiError(400, text, "no_chat_template", param)
        messages = [message.as_message() for message in body.messages]
        sampling = body.sampling(self.max_tokens, self.max_tokens)
        read = partial(ask_messages, self.engine, messages, sampling)
        return await self._answer(body, param, read, request)

    async def complete(self, request: Request) -> Response:
        """What follows a text."""
        body = await read_body(request, CompletionRequest, self._body_bytes)
        sampling = body.sampling(self.max_tokens, DEFAULT_COMPLETION_TOKENS)
        read = partial(ask_text, self.engine, body.prompt, sampling)
        return await self._answer(body, "prompt", read, request)

    async def _answer(
        self,
        body: ChatRequest | CompletionRequest,
        param: str,
        read: Callable[[], GenerateRequest],
        request: Request,
    ) -> Response:
        self._check_model(body.model)
        self._check_limits(body)
        try:
            asked = await self.answering.queue.read(read)
        except UnfitPrompt as problem:
            raise refuse_prompt(problem, param) from problem
        caller: Caller = request.scope[CALLER]
        self.answering.check(caller)
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        reply = Reply(
            self.model_id, isinstance(body, ChatRequest), asked.prompt_tokens, include_usage
        )
        asked = replace(asked, owner=caller.name, whole=not body.stream)
        line = self._begin_line(reply, caller, request, asked)
        pieces = self.answering.answer(caller, line, asked, self._guarded(body))
        if body.stream:
            events = _events(reply, pieces, line)
            return StreamingResponse(events, 200, STREAM_HEADERS, "text/event-stream")
        answer = await _unless_gone(request, _gather(pieces))
        text, tokens = "".join(p.text for p in answer), sum(p.tokens for p in answer)
        reason = answer[-1].finish_reason if answer else None
        return JSONResponse(reply.whole(text, tokens, reason) | _safety_report(line))

    def _guarded(self, body: ChatRequest | CompletionRequest) -> GuardedAnswer | None:
        """The review of an answer, unless there is none on this server or none is asked for."""
        around = self.answering.around
        if body.review is False and around.guard and not around.may_skip_review:
            raise ApiError(400, "this server reviews every answer", "review_required", "review")
        if not around.guard or body.review is False:
            return None
        context = body.patient_context
        return GuardedAnswer(around.guard, body.question, context, whole=not body.stream)

    def _begin_line(
        self, reply: Reply, caller: Caller, request: Request, asked: GenerateRequest
    ) -> Asked:
        """What the audit log will tell of this request."""
        prompt = asked.prompt or "\n".join(turn.content for turn in asked.messages)
        audit = self.answering.around.audit
        digest = audit.digest(prompt) if audit else ""
        return Asked(reply.id, caller.name, request.scope["path"], digest, asked.prompt_tokens)

    @property
    def _body_bytes(self) -> int:
        """The longest body that can hold a prompt of this model."""
        return BODY_BYTES + BODY_BYTES_PER_BYTE * BYTES_PER_TOKEN * self.engine.context_length

    def _check_limits(self, body: AnswerRequest) -> None:
        if body.stream_options and not body.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        for name in ("max_tokens", "max_completion_tokens"):
            if (getattr(body, name) or 0) > self.max_tokens:
                message = f"this server gives at most {self.max_tokens} tokens an answer"
                raise ApiError(400, message, "max_tokens_exceeded", name)

    def _check_model(self, name: str | None) -> None:
        if name not in (None, self.model_id):
            message = f"this server has no such model; it serves {self.model_id}"
            raise ApiError(404, message, "model_not_found", "model")


async def _gather(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


async def _unless_gone(request: Request, work: Coroutine[Any, Any, list[Piece]]) -> list[Piece]:
    """What comes of the work, which ends soon after its client has hung up."""
    answering = asyncio.create_task(work)
    leaving = asyncio.create_task(_is_gone(request))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


async def _is_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _safety_report(line: Asked) -> dict[str, Any]:
    return {"safety_report": line.report.to_json()} if line.report else {}


async def _events(reply: Reply, pieces: AsyncIterator[Piece], line: Asked) -> AsyncIterator[str]:
    """The answer as server-sent events; what fails on the way is an event, too."""
    tokens = 0
    if reply.chat:
        yield _event(reply.chunk(role="assistant", content=""))
    try:
        async for piece in pieces:
            tokens += piece.tokens
            if piece.text:
                yield _event(reply.chunk(content=piece.text))
            if piece.finish_reason:
                yield _event(reply.chunk(piece.finish_reason) | _safety_report(line))
    except ApiError as problem:
        yield _event(problem.body)
        return
    if reply.include_usage:
        yield _event(reply.last_chunk(tokens))
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"  # ASCII: some clients end lines at U+2028, too
