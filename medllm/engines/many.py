"""Many requests → their whole answers, together where an engine can."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from medllm.engines.base import (
    Answers,
    AnswersMany,
    EngineDown,
    GenerateRequest,
    Generates,
    GeneratesBatches,
    Piece,
)
from medllm.engines.prompts import ask_messages, ask_text
from medllm.errors import DataError
from medllm.models.chat.template import Template


@dataclass(frozen=True, slots=True)
class Written:
    """A whole answer."""

    text: str
    prompt_tokens: int | None
    """None where the engine alone knows them."""
    tokens: int
    finish_reason: str
    """"stop" or "length"."""
    logprob: float | None = None
    """The mean log-likelihood of its tokens under the model, before penalties and temperature, in
    nats; None for an answer without a token, and where the engine does not know it."""


Outcome = Written | DataError


def write_answers(
    engine: Answers, requests: Sequence[GenerateRequest]
) -> Generator[tuple[int, Outcome]]:
    """The answers as each is whole, with the place of its request from 0, in any order.

    They are written together where the engine can (`GeneratesBatches`, `AnswersMany`), else one
    after another. A request may hold messages or a text, whatever the engine is. One that cannot
    be answered has its DataError in its place, and the others go on. Who closes the iterator ends
    the work.

    Raises:
        EngineDown: an engine in another process died.
    """
    ready: dict[int, GenerateRequest] = {}
    for place, request in enumerate(requests):
        try:
            ready[place] = replace(_encoded(engine, request), whole=True, likelihood=True)
        except DataError as problem:
            yield place, problem
    places, asked = [*ready], [*ready.values()]
    with closing(_write(engine, asked)) as written:
        for number, outcome in written:
            yield places[number], outcome


def _encoded(engine: Answers, request: GenerateRequest) -> GenerateRequest:
    """The request with token ids, where the engine has some.

    Raises:
        DataError: it is empty, leaves no room for an answer, or the chat template refuses it.
    """
    if not isinstance(engine, Template) or request.images:
        return request
    if request.messages:
        made = ask_messages(engine, request.messages, request.sampling)
    elif isinstance(request.prompt, str):
        made = ask_text(engine, request.prompt, request.sampling)
    else:
        return request
    return replace(request, prompt=made.prompt, messages=())


def _write(engine: Answers, requests: Sequence[GenerateRequest]) -> "_Outcomes":
    if isinstance(engine, GeneratesBatches):
        return _together(engine, requests)
    if isinstance(engine, AnswersMany):
        return _at_once(engine, requests)
    return _in_turn(engine, requests)


_Outcomes = Generator[tuple[int, Outcome]]


@dataclass(slots=True)
class _Growing:
    """An answer as its pieces come."""

    prompt_tokens: int | None
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    logprob: float | None = 0.0

    def add(self, piece: Piece) -> Written | None:
        """Take a piece; the answer where it was the last one."""
        self.texts.append(piece.text)
        self.tokens += piece.tokens
        if piece.tokens:
            known = None if self.logprob is None else piece.logprob
            self.logprob = None if known is None else (self.logprob or 0.0) + known
        if piece.finish_reason is None:
            return None
        mean = None if self.logprob is None or not self.tokens else self.logprob / self.tokens
        text = "".join(self.texts)
        return Written(text, self.prompt_tokens, self.tokens, piece.finish_reason, mean)


def _in_turn(engine: Generates, requests: Sequence[GenerateRequest]) -> _Outcomes:
    for place, request in enumerate(requests):
        growing = _Growing(request.prompt_tokens)
        try:
            for piece in engine.generate(request):
                if written := growing.add(piece):
                    yield place, written
        except DataError as problem:
            yield place, problem


def _together(engine: GeneratesBatches, requests: Sequence[GenerateRequest]) -> _Outcomes:
    growing = [_Growing(request.prompt_tokens) for request in requests]
    with closing(engine.generate_batch(requests)) as pieces:
        for place, piece in pieces:
            if isinstance(piece, DataError):
                yield place, piece
            elif written := growing[place].add(piece):
                yield place, written


def _at_once(engine: AnswersMany, requests: Sequence[GenerateRequest]) -> _Outcomes:
    outcomes = _stream_all(engine, requests)

    async def first_ready() -> tuple[int, Outcome] | None:
        return await anext(outcomes, None)

    with asyncio.Runner() as runner:
        try:
            while (found := runner.run(first_ready())) is not None:
                yield found
        finally:
            runner.run(outcomes.aclose())


async def _stream_all(
    engine: AnswersMany, requests: Sequence[GenerateRequest]
) -> AsyncGenerator[tuple[int, Outcome], None]:
    """The answers as each is whole; so many are asked for at once as the engine writes."""
    turns = asyncio.Semaphore(engine.parallel)

    async def answer(place: int, request: GenerateRequest) -> tuple[int, Outcome]:
        growing, written = _Growing(request.prompt_tokens), None
        async with turns:
            try:
                async for piece in engine.stream(request):
                    written = growing.add(piece)
            except DataError as problem:
                return place, problem
        if written is None:
            raise EngineDown("the engine ended an answer without a reason")
        return place, written

    tasks = [asyncio.create_task(answer(*each)) for each in enumerate(requests)]
    try:
        for ready in asyncio.as_completed(tasks):
            yield await ready
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
