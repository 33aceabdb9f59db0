"""The addresses that ask the model: check what is asked, ask, word the answers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from medllm.data.example import Message
from medllm.engines.base import Answers, GenerateRequest, Piece, Sampling
from medllm.engines.prompts import ask_messages, ask_text, takes_messages
from medllm.models.chat.prompts import BYTES_PER_TOKEN, UnfitPrompt
from medllm.serve.answering import Answering
from medllm.serve.audit.record import Asked
from medllm.serve.body import read_body
from medllm.serve.callers.access import CALLER
from medllm.serve.callers.keys import Caller
from medllm.serve.guard import GuardedAnswer
from medllm.serve.refusals import refuse_prompt
from medllm.serve.routes.plain import PlainRequest, as_plain
from medllm.serve.routes.reply import Outcome, Reply
from medllm.serve.wire import AnswerRequest, ApiError, ChatRequest, CompletionRequest

BODY_BYTES_PER_BYTE = 6  # JSON may write a byte of text so: \u0041
BODY_BYTES = 2**18  # for all that is not text in the prompt
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions; chats have none
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_ANSWERS = 128
"""Of one request: its prompts times `n`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that was read: what the engine is asked, and who said what in it."""

    request: GenerateRequest
    turns: tuple[Message, ...]

    @property
    def question(self) -> str:
        """What the users said in it, for the review."""
        return "\n\n".join(turn.content for turn in self.turns if turn.role == "user")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that came in, and who sent it."""

    body: AnswerRequest
    reply: Reply
    caller: Caller
    path: str


@dataclass(frozen=True, slots=True)
class Work:
    """One answer that is to be given: what the audit log will tell of it, and its pieces."""

    line: Asked
    pieces: AsyncIterator[Piece]

    async def outcome(self) -> Outcome:
        """The whole answer."""
        got = [piece async for piece in self.pieces]
        text, tokens = "".join(piece.text for piece in got), sum(piece.tokens for piece in got)
        return Outcome(text, tokens, got[-1].finish_reason if got else None, self.line.report)


@dataclass(frozen=True)
class AnswerRoutes:
    """Chat, completions and `/generate`."""

    answering: Answering
    model_id: str
    max_tokens: int

    @property
    def engine(self) -> Answers:
        """What answers."""
        return self.answering.queue.engine

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
        turns = tuple(message.as_message() for message in body.messages)
        sampling = body.sampling(self.max_tokens, self.max_tokens)
        return await self._answer(body, param, [partial(self._read_chat, turns, sampling)], request)

    def _read_chat(self, turns: tuple[Message, ...], sampling: Sampling) -> Prompt:
        return Prompt(ask_messages(self.engine, turns, sampling), turns)

    async def complete(self, request: Request) -> Response:
        """What follows a text, or each of several."""
        body = await read_body(request, CompletionRequest, self._body_bytes)
        sampling = body.sampling(self.max_tokens, DEFAULT_COMPLETION_TOKENS)
        reads = [partial(self._read_text, prompt, sampling) for prompt in body.prompt]
        return await self._answer(body, "prompt", reads, request)

    def _read_text(self, prompt: str, sampling: Sampling) -> Prompt:
        return Prompt(ask_text(self.engine, prompt, sampling), (Message("user", prompt),))

    async def _answer(
        self,
        body: ChatRequest | CompletionRequest,
        param: str,
        reads: Sequence[Callable[[], Prompt]],
        request: Request,
    ) -> Response:
        self._check(body, len(reads))
        prompts = [await self._read(read, param) for read in reads]
        reply = self._reply(body, prompts)
        sent = Sent(body, reply, request.scope[CALLER], request.scope["path"])
        self.answering.check(sent.caller, len(prompts) * body.count)
        works = list(self._works(sent, prompts))
        if body.stream:
            events = _events(reply, works)
            return StreamingResponse(events, 200, STREAM_HEADERS, "text/event-stream")
        outcomes = _gather(works, self.answering.at_once(sent.caller))
        return JSONResponse(reply.whole(await _unless_gone(request, outcomes)))

    async def _read(self, read: Callable[[], Prompt], param: str) -> Prompt:
        try:
            return await self.answering.queue.read(read)
        except UnfitPrompt as problem:
            raise refuse_prompt(problem, param) from problem

    def _reply(self, body: AnswerRequest, prompts: Sequence[Prompt]) -> Reply:
        counts = [prompt.request.prompt_tokens for prompt in prompts]
        known = [count for count in counts if count is not None]
        left = self.engine.context_length - max(known, default=0)
        given = min(self.max_tokens, left)
        return Reply(
            self.model_id,
            isinstance(body, ChatRequest),
            sum(known) if len(known) == len(counts) else None,
            bool(body.stream_options and body.stream_options.include_usage),
            {"max_tokens": given} if (body.asked_tokens or 0) > given else {},
        )

    def _works(self, sent: Sent, prompts: Sequence[Prompt]) -> Iterator[Work]:
        """An answer for each prompt and each of its `n`, with seeds of their own."""
        answers = list(product(prompts, range(sent.body.count)))
        for index, (prompt, number) in enumerate(answers):
            sampling = prompt.request.sampling
            if sampling.seed is not None:
                sampling = replace(sampling, seed=sampling.seed + number)
            asked = replace(
                prompt.request,
                owner=sent.caller.name,
                whole=not sent.body.stream,
                sampling=sampling,
            )
            line = self._begin_line(sent, prompt)
            line.choice = index if len(answers) > 1 else None
            guarded = self._guarded(sent.body, prompt)
            yield Work(line, self.answering.answer(sent.caller, line, asked, guarded))

    def _guarded(self, body: AnswerRequest, prompt: Prompt) -> GuardedAnswer | None:
        """The review of an answer, unless there is none on this server or none is asked for."""
        around = self.answering.around
        if body.review is False and around.guard and not around.may_skip_review:
            raise ApiError(400, "this server reviews every answer", "review_required", "review")
        if not around.guard or body.review is False:
            return None
        context = body.patient_context
        return GuardedAnswer(around.guard, prompt.question, context, whole=not body.stream)

    def _begin_line(self, sent: Sent, prompt: Prompt) -> Asked:
        """What the audit log will tell of this request."""
        asked, around = prompt.request, self.answering.around
        text = asked.prompt or "\n".join(turn.content for turn in asked.messages)
        digest = around.audit.digest(text) if around.audit else ""
        line = Asked(sent.reply.id, sent.caller.name, sent.path, digest, asked.prompt_tokens)
        line.question = around.given.digest(prompt.turns)
        if around.audit and around.audit.keeps_text:
            line.text = _asked_text(sent.body, prompt)
        return line

    @property
    def _body_bytes(self) -> int:
        """The longest body that can hold a prompt of this model."""
        return BODY_BYTES + BODY_BYTES_PER_BYTE * BYTES_PER_TOKEN * self.engine.context_length

    def _check(self, body: AnswerRequest, prompts: int) -> None:
        check_model(body.model, self.model_id)
        if body.stream_options and not body.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        if prompts * body.count > MAX_ANSWERS:
            message = f"one request gets at most {MAX_ANSWERS} answers, prompts times n"
            raise ApiError(400, message, param="n")


def _asked_text(body: AnswerRequest, prompt: Prompt) -> dict[str, Any]:
    """What was asked, for an audit log that keeps texts."""
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    is_chat = isinstance(body, ChatRequest)
    asked = {"messages": messages} if is_chat else {"prompt": messages[0]["content"]}
    return asked | ({"patient_context": body.patient_context} if body.patient_context else {})


def check_model(name: str | None, model_id: str) -> None:
    """Raise ApiError for the name of another model; without one the model that is there answers."""
    if name not in (None, model_id):
        message = f"this server has no such model; it serves {model_id}"
        raise ApiError(404, message, "model_not_found", "model")


async def _gather(works: Sequence[Work], at_once: int) -> list[Outcome]:
    """All answers, so many at a time; one that fails ends the others."""
    turn = asyncio.Semaphore(at_once)

    async def one(work: Work) -> Outcome:
        async with turn:
            return await work.outcome()

    tasks = [asyncio.create_task(one(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
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


async def _events(reply: Reply, works: Sequence[Work]) -> AsyncIterator[str]:
    """The answers, one after another, as server-sent events; what fails is an event, too."""
    tokens = 0
    try:
        for index, work in enumerate(works):
            if reply.chat:
                yield _event(reply.chunk(index, role="assistant", content=""))
            async for piece in work.pieces:
                tokens += piece.tokens
                if piece.text:
                    yield _event(reply.chunk(index, content=piece.text))
                if piece.finish_reason:
                    yield _event(reply.chunk(index, piece.finish_reason, work.line.report))
    except ApiError as problem:
        yield _event(problem.body)
        return
    if reply.include_usage:
        yield _event(reply.last_chunk(tokens))
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"  # ASCII: some clients end lines at U+2028, too
