"""The addresses that ask the model: check what is asked, ask, word the answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from medllm.data.example import Message
from medllm.engines.base import Answers, Sampling, TakesChats
from medllm.engines.prompts import ask_chat, ask_messages, ask_text, takes_messages
from medllm.engines.sampling import UnfitSampling, check_sampling
from medllm.engines.servers.chat import UnfitChat
from medllm.errors import DataError
from medllm.measures.logprobs import check_logprobs
from medllm.models.chat.prompts import BYTES_PER_TOKEN, UnfitPrompt
from medllm.serve.answering import Answering
from medllm.serve.audit.record import Asked
from medllm.serve.body import MAX_BODY_BYTES, MAX_IMAGE_BODY_BYTES, read_body
from medllm.serve.callers.access import CALLER
from medllm.serve.forms.strict import UNSUPPORTED
from medllm.serve.guard import GuardedAnswer
from medllm.serve.refusals import refuse_prompt
from medllm.serve.routes.asked import Prompt, Sent, Work, asked_text
from medllm.serve.routes.events import events
from medllm.serve.routes.plain import PlainRequest, as_plain, in_plain_words
from medllm.serve.routes.reply import Outcome, Reply
from medllm.serve.routes.token_ids import ask_ids, check_known
from medllm.serve.wire import AnswerRequest, ApiError, ChatRequest, CompletionRequest

PLAIN = "/generate"
BODY_BYTES_PER_BYTE = 6  # JSON may write a byte of text so: \u0041
BODY_BYTES = 2**18  # for all that is not text in the prompt
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's default of /v1/completions; chats have none
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_ANSWERS = 128
"""Of one request: its prompts times `n`."""


async def until_answered(request: Request) -> AsyncIterator[None]:
    """What is entered in `request.state.until_answered` is left when the response was sent."""
    with ExitStack() as request.state.until_answered:
        yield


@dataclass(frozen=True)
class AnswerRoutes:
    """Chat, completions and `/generate`."""

    answering: Answering
    model_id: str
    max_tokens: int
    served: str | None = None
    """The name by which the callers of a second model know the server's."""

    @property
    def engine(self) -> Answers:
        """What answers."""
        return self.answering.queue.engine

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        is_seeing = isinstance(self.engine, TakesChats) and self.engine.reads_images
        limit = MAX_IMAGE_BODY_BYTES if is_seeing else self._body_bytes
        body = await read_body(request, ChatRequest, limit)
        return await self._respond(body, "messages", self._turns_of(body, "messages"), request)

    async def generate(self, request: Request) -> Response:
        """The answer to one question, and what its review found, without OpenAI's envelope."""
        began = time.monotonic()
        asked = await read_body(request, PlainRequest, self._body_bytes)
        body = asked.as_chat(self.model_id)
        with in_plain_words():
            reads = self._turns_of(body, "messages")
            reply, works = await self._begin(body, "messages", reads, request)
            (outcome,) = await self._whole(request, works)
        return JSONResponse(as_plain(reply, outcome, began))

    def _turns_of(self, body: ChatRequest, param: str) -> list[Callable[[], Prompt]]:
        if not takes_messages(self.engine):
            text = "this model has no chat template; use /v1/completions"
            raise ApiError(400, text, "no_chat_template", param)
        turns = tuple(message.as_message() for message in body.messages)
        sampling = body.sampling(self.max_tokens, self.max_tokens)
        return [partial(self._read_chat, body, turns, sampling)]

    def _read_chat(
        self, body: ChatRequest, turns: tuple[Message, ...], sampling: Sampling
    ) -> Prompt:
        self._check_sampling(sampling)
        if chat := body.chat:
            images = tuple(image.content for image in body.images)
            return Prompt(ask_chat(self.engine, chat, sampling), turns, images=images)
        return Prompt(ask_messages(self.engine, turns, sampling), turns)

    async def complete(self, request: Request) -> Response:
        """What follows a text, or each of several."""
        body = await read_body(request, CompletionRequest, self._body_bytes)
        sampling = body.sampling(self.max_tokens, DEFAULT_COMPLETION_TOKENS)
        reads = [partial(self._read_text, body, prompt, sampling) for prompt in body.prompt]
        return await self._respond(body, "prompt", reads, request)

    def _read_text(
        self, body: CompletionRequest, prompt: str | tuple[int, ...], sampling: Sampling
    ) -> Prompt:
        self._check_sampling(sampling)
        if isinstance(prompt, str):
            asked, text = ask_text(self.engine, prompt, sampling), prompt
        else:
            asked, text = ask_ids(self.engine, prompt, sampling)
        asked = replace(asked, prompt_logprobs=bool(body.echo and body.top is not None))
        return Prompt(asked, (Message("user", text),), text if body.echo else "")

    def _check_sampling(self, sampling: Sampling) -> None:
        """Raise DataError for what this engine would not heed."""
        check_sampling(self.engine.name, sampling)
        guard = self.answering.around.guard
        if sampling.json_schema and guard and guard.policy.action == "append":
            message = "json_schema: this server adds warnings to answers, which would be no JSON"
            raise UnfitSampling(message, "ask for text, or set the policy annotate or block")
        if sampling.logit_bias:
            try:
                check_known(self.engine, [token for token, _ in sampling.logit_bias])
            except DataError as problem:
                raise UnfitSampling(f"logit_bias: {problem.message}", problem.fix) from problem

    async def _respond(
        self,
        body: ChatRequest | CompletionRequest,
        param: str,
        reads: Sequence[Callable[[], Prompt]],
        request: Request,
    ) -> Response:
        reply, works = await self._begin(body, param, reads, request)
        if body.stream:
            told = events(reply, works)
            return StreamingResponse(told, 200, STREAM_HEADERS, "text/event-stream")
        return JSONResponse(reply.whole(await self._whole(request, works)))

    async def _whole(self, request: Request, works: Sequence[Work]) -> list[Outcome]:
        outcomes = _gather(works, self.answering.at_once(request.scope[CALLER]))
        return await _unless_gone(request, outcomes)

    async def _begin(
        self,
        body: ChatRequest | CompletionRequest,
        param: str,
        reads: Sequence[Callable[[], Prompt]],
        request: Request,
    ) -> tuple[Reply, list[Work]]:
        """The answers that are to be given, after all that can be refused."""
        self._check(body, len(reads))
        request.state.until_answered.enter_context(self.answering.admitted())
        prompts = [await self._read(read, param) for read in reads]
        reply = self._reply(body, prompts)
        sent = Sent(body, reply, request.scope[CALLER], request.scope["path"])
        self.answering.check(sent.caller, len(prompts) * body.count, param_of_count(body))
        return reply, list(self._works(sent, prompts))

    async def _read(self, read: Callable[[], Prompt], param: str) -> Prompt:
        try:
            return await self.answering.queue.read(read)
        except UnfitPrompt as problem:
            raise refuse_prompt(problem, param) from problem
        except UnfitSampling as problem:
            named, _, why = problem.message.partition(":")
            param = "response_format" if named == "json_schema" else named
            raise ApiError(400, f"{param}:{why}", UNSUPPORTED, param) from problem
        except UnfitChat as problem:
            message = f"{problem.message}; {problem.fix}"
            raise ApiError(400, message, UNSUPPORTED, problem.param) from problem
        except DataError as problem:
            raise ApiError(400, f"{problem.message}; {problem.fix}", param=param) from problem

    def _reply(self, body: AnswerRequest, prompts: Sequence[Prompt]) -> Reply:
        counts = [prompt.request.prompt_tokens or 0 for prompt in prompts]
        left = self.engine.context_length - max(counts)
        given = min(self.max_tokens, left)
        return Reply(
            self.model_id,
            isinstance(body, ChatRequest),
            bool(body.stream_options and body.stream_options.include_usage),
            dict.fromkeys(body.asked, given) if (body.asked_tokens or 0) > given else {},
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
                logprobs=sent.body.top,
                likelihood=sent.path == PLAIN,
            )
            line = self._begin_line(sent, prompt)
            line.is_further = number > 0
            line.choice = index if len(answers) > 1 else None
            if (shadow := self.answering.around.shadow) and not number:
                line.watch = shadow.watch(line, prompt.turns, sampling, sent.body)
            guarded = self._guarded(sent.body, prompt)
            pieces = self.answering.answer(sent.caller, line, asked, guarded)
            yield Work(line, pieces, prompt.echo)

    def _guarded(self, body: AnswerRequest, prompt: Prompt) -> GuardedAnswer | None:
        """The review of an answer, unless there is none on this server or none is asked for."""
        around = self.answering.around
        if body.review is False and around.guard and not around.may_skip_review:
            message = "this server reviews every answer, whatever a request says"
            raise ApiError(400, message, "review_required", "review")
        if not around.guard or body.review is False:
            return None
        context = body.patient_context
        return GuardedAnswer(
            around.guard, prompt.turns, context, whole=not body.stream, unread=prompt.unread
        )

    def _begin_line(self, sent: Sent, prompt: Prompt) -> Asked:
        """What the audit log will tell of this request."""
        asked, around = prompt.request, self.answering.around
        text = "\n".join(turn.content for turn in prompt.turns)
        digest = around.audit.digest(text) if around.audit else ""
        line = Asked(sent.reply.id, sent.caller.name, sent.path, digest, asked.prompt_tokens)
        line.question = around.given.digest(prompt.turns)
        line.is_canary = self.served is not None
        line.model = self.model_id if around.canary else None
        if around.audit and around.audit.keeps_text:
            line.text = asked_text(sent.body, prompt)
        if around.audit:
            line.images = [around.audit.digest(image) for image in prompt.images]
        return line

    @property
    def _body_bytes(self) -> int:
        """The longest body that can hold a prompt of this model."""
        own = BODY_BYTES + BODY_BYTES_PER_BYTE * BYTES_PER_TOKEN * self.engine.context_length
        return min(own, MAX_BODY_BYTES)

    def _check(self, body: ChatRequest | CompletionRequest, prompts: int) -> None:
        if body.model is None or body.model != self.served:
            check_model(body.model, self.model_id)
        if body.stream_options and not body.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")
        if prompts * body.count > MAX_ANSWERS:
            message = f"one request gets at most {MAX_ANSWERS} answers, prompts times n"
            raise ApiError(400, message, param=param_of_count(body))
        if body.top is not None:
            self._check_logprobs(body)
        elif isinstance(body, ChatRequest) and body.top_logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")

    def _check_logprobs(self, body: ChatRequest | CompletionRequest) -> None:
        if isinstance(body, ChatRequest) and body.chat:
            message = "logprobs come with texts alone: leave tools and images out"
            raise ApiError(400, message, UNSUPPORTED, "logprobs")
        echo = isinstance(body, CompletionRequest) and bool(body.echo)
        try:
            check_logprobs(self.engine, of_prompt=echo)
        except DataError as problem:
            message = f"{problem.message}; {problem.fix}"
            raise ApiError(400, message, UNSUPPORTED, "logprobs") from problem


def param_of_count(body: AnswerRequest) -> str:
    """The field by which a request asks for several answers."""
    return "n" if body.count > 1 else "prompt"


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
