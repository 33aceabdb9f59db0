"""The OpenAI-compatible HTTP face of one engine: chat, completions, models and health.

Nothing is answered without the key but `/health`; no text of a request or an answer reaches a log.
"""

import asyncio
import hmac
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from medllm.engines.base import Engine, Piece, Sampling
from medllm.errors import DataError, MedllmError
from medllm.serve.config import ServeConfig, is_loopback
from medllm.serve.wire import (
    AnswerRequest,
    ApiError,
    ChatRequest,
    CompletionRequest,
    Reply,
    check_supported,
)

MAX_BODY_BYTES = 16 * 2**20
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions; chats have none
DEFAULT_ANSWER_TOKENS: int = ServeConfig.model_fields["max_tokens"].default
NO_TELEMETRY: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)
"""FastAPI hands exceptions, and so perhaps text, to any OpenTelemetry exporter it finds."""


def build_app(
    engine: Engine, *, model_id: str, api_key: str | None, max_tokens: int = DEFAULT_ANSWER_TOKENS
) -> FastAPI:
    """The application that answers for `engine` under the name `model_id`.

    With a key, everything but `/health` needs `Authorization: Bearer <key>`. Without one, only
    requests that name a loopback host are answered, which keeps web pages from reaching in through
    DNS rebinding. `max_tokens` is the most one answer may have.
    """
    app = FastAPI(
        title="medllm",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=MAX_BODY_BYTES,
        telemetry=NO_TELEMETRY,
    )
    app.add_middleware(Gate, api_key=api_key)
    _install_error_forms(app)
    desk = Desk(engine, model_id, max_tokens)

    @app.get("/health", response_model=None)
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": model_id}

    @app.get("/v1/models", response_model=None)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [desk.model_card()]}

    @app.get("/v1/models/{model:path}", response_model=None)
    async def model(model: str) -> dict[str, Any]:
        desk.check_model(model)
        return desk.model_card()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await desk.chat(body, request)

    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await desk.complete(body, request)

    return app


class Gate:
    """The door: lets through `/health`, and whoever may come in."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read."""
        is_open = scope["type"] == "lifespan" or scope["path"] == "/health"
        refusal = None if is_open else self._refusal(Headers(scope=scope))
        await (_error_response(refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> ApiError | None:
        if self._key is None:
            if is_loopback(_host_name(headers)):
                return None
            message = "without a key this server answers to localhost only"
            return ApiError(403, message, code="host_not_allowed")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # Bytes, because compare_digest refuses strings that are not ASCII.
        if scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key):
            return None
        message = "missing or wrong key; send it as 'Authorization: Bearer <key>'"
        return ApiError(401, message, code="invalid_api_key")


def _host_name(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


@dataclass(frozen=True)
class Desk:
    """Takes requests for one engine and answers them one at a time, in the order they came."""

    engine: Engine
    model_id: str
    max_tokens: int
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """The next message of a conversation."""
        for number, message in enumerate(body.messages):
            check_supported(message.model_extra, f"messages.{number}.")
        self._check(body)
        if not self.engine.has_chat_template:
            text = "this model has no chat template; use /v1/completions"
            raise ApiError(400, text, code="no_chat_template", param="messages")
        messages = [message.as_message() for message in body.messages]
        prompt = await self._read(
            lambda: self.engine.encode(self.engine.render(messages), add_special_tokens=False)
        )
        return await self._answer(body, prompt, request)

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """What follows a text."""
        self._check(body)
        prompt = await self._read(lambda: self.engine.encode(body.prompt, add_special_tokens=True))
        return await self._answer(body, prompt, request)

    def model_card(self) -> dict[str, Any]:
        """The one model, as `GET /v1/models` lists it."""
        return {"id": self.model_id, "object": "model", "created": 0, "owned_by": "medllm"}

    def check_model(self, name: str) -> None:
        """Refuse every name but the one that is served.

        Raises:
            ApiError: 404, code `model_not_found`.
        """
        if name != self.model_id:
            message = f"this server has no such model; it serves {self.model_id}"
            raise ApiError(404, message, code="model_not_found", param="model")

    def _check(self, body: AnswerRequest) -> None:
        check_supported(body.model_extra)
        self.check_model(body.model)
        if body.stream_options:
            check_supported(body.stream_options.model_extra, "stream_options.")
            if not body.stream:
                raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        if (body.asked_tokens or 0) > self.max_tokens:
            message = f"this server gives at most {self.max_tokens} tokens an answer"
            raise ApiError(400, message, code="max_tokens_exceeded", param="max_tokens")

    async def _read(self, tokenize: Callable[[], list[int]]) -> list[int]:
        """Token ids of a prompt that leaves room for an answer; tokenizers are not thread-safe."""
        async with self.reading:
            prompt = await asyncio.to_thread(tokenize)
        if not prompt:
            raise ApiError(400, "the prompt is empty")
        if len(prompt) >= self.engine.context_length:
            message = (
                f"the prompt has {len(prompt)} tokens; this model's context holds"
                f" {self.engine.context_length}, prompt and answer together"
            )
            raise ApiError(400, message, code="context_length_exceeded")
        return prompt

    async def _answer(self, body: AnswerRequest, prompt: list[int], request: Request) -> Response:
        chat = isinstance(body, ChatRequest)
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        limit = min(self.max_tokens, self.engine.context_length - len(prompt))
        default = self.max_tokens if chat else DEFAULT_COMPLETION_TOKENS
        generation = Generation(self.engine, prompt, body.sampling(limit, default))
        reply = Reply(self.model_id, chat, len(prompt), include_usage)
        pieces = generation.pieces(self.turn)
        if body.stream:
            return EventStream(generation, _events(reply, pieces))
        watch = asyncio.create_task(_stop_when_gone(request, generation))
        try:
            return JSONResponse(await _whole(reply, pieces))
        finally:
            watch.cancel()


class Generation:
    """One answer in the making.

    It waits for its turn, then runs from beginning to end in one thread (torch keeps its modes per
    thread). The turn ends when that thread does, whether or not anyone still reads.
    """

    def __init__(self, engine: Engine, prompt: list[int], sampling: Sampling) -> None:
        self._engine, self._prompt, self._sampling = engine, prompt, sampling
        self._stopped = threading.Event()
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

    def stop(self) -> None:
        """End it after the piece it is at; before its turn, let the turn pass."""
        self._stopped.set()

    async def pieces(self, turn: asyncio.Lock) -> AsyncIterator[Piece]:
        """The pieces as they come; raises what the engine raises."""
        work = asyncio.create_task(self._work(turn))
        work.add_done_callback(_take_exception)
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
            await work
        finally:
            self.stop()

    async def _work(self, turn: asyncio.Lock) -> None:
        loop = asyncio.get_running_loop()
        put = self._pieces.put_nowait
        try:
            async with turn:
                await asyncio.to_thread(self._run, lambda p: loop.call_soon_threadsafe(put, p))
        finally:
            self.stop()
            put(None)

    def _run(self, put: Callable[[Piece], object]) -> None:
        if self._stopped.is_set():
            return
        for piece in self._engine.generate(self._prompt, self._sampling):
            put(piece)
            if self._stopped.is_set():
                return


def _take_exception(work: "asyncio.Task[None]") -> None:
    """Keep asyncio from logging an error, and with it perhaps text, whose reader has gone."""
    if not work.cancelled():
        work.exception()


async def _stop_when_gone(request: Request, generation: Generation) -> None:
    """End the generation when its client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    generation.stop()


async def _whole(reply: Reply, pieces: AsyncIterator[Piece]) -> dict[str, Any]:
    """The answer in one object."""
    texts, tokens, finish_reason = [], 0, None
    async for piece in pieces:
        texts.append(piece.text)
        tokens += piece.tokens
        finish_reason = piece.finish_reason
    return reply.whole("".join(texts), tokens, finish_reason)


async def _events(reply: Reply, pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
    """The answer as server-sent events."""
    tokens = 0
    if reply.chat:
        yield _event(reply.first_chunk())
    try:
        async for piece in pieces:
            tokens += piece.tokens
            if piece.text:
                yield _event(reply.chunk(piece.text, None))
            if piece.finish_reason:
                yield _event(reply.chunk("", piece.finish_reason))
    except MedllmError as problem:
        yield _event({"error": ApiError(500, problem.message).detail})
        return
    if reply.include_usage:
        yield _event(reply.last_chunk(tokens))
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"  # ASCII: some clients end lines at U+2028, too


class EventStream(StreamingResponse):
    """Server-sent events of a generation, which ends when the client goes."""

    def __init__(self, generation: Generation, events: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.stop()


def _install_error_forms(app: FastAPI) -> None:
    """Every error in OpenAI's form, and none with text in it."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return _error_response(error)

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _error_response(_validation_error(error))

    async def unrouted(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _error_response(ApiError(error.status_code, error.detail))

    async def failed(_: Request, error: Exception) -> Response:
        assert isinstance(error, MedllmError)
        status = 400 if isinstance(error, DataError) else 500  # such as a chat the template refuses
        return _error_response(ApiError(status, error.message))

    async def broken(_: Request, error: Exception) -> Response:
        return _error_response(ApiError(500, "internal error"))

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(MedllmError, failed)
    app.add_exception_handler(Exception, broken)


def _validation_error(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param)


def _error_response(error: ApiError) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse({"error": error.detail}, error.status, headers)
