"""A shadow model: it is asked what the served one answered, and nobody is shown what it says.

Its answers are compared and thrown away; what is kept of them holds no text.
"""

import asyncio
import difflib
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from medllm.clinical.report import Report
from medllm.data.dedup import part_words
from medllm.data.example import Message, said_by
from medllm.engines.base import Answers, GenerateRequest, Piece
from medllm.engines.prompts import ask_chat, ask_messages, ask_text
from medllm.engines.sampling import Sampling, check_sampling
from medllm.engines.servers.chat import told
from medllm.errors import DataError
from medllm.models.chat.template import Template
from medllm.serve.audit.record import Asked
from medllm.serve.guard import Guard, join_pieces
from medllm.serve.metrics import Metrics
from medllm.serve.request_queue import RequestQueue
from medllm.serve.wire import AnswerRequest, ApiError, ChatRequest

MOST_WAITING = 16
"""Answers that may wait to be compared; more are left out, and counted."""


@dataclass(slots=True)
class Watch:
    """One answer of the served model, and what the shadow needs to answer the same."""

    shadow: "Shadow"
    asked: Asked
    turns: tuple[Message, ...]
    sampling: Sampling
    body: AnswerRequest
    parts: list[Piece] = field(default_factory=list)
    """What the served model wrote, before a review changes it."""
    is_whole: bool = False

    async def over(self, pieces: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """The pieces as they are."""
        async for piece in pieces:
            self.parts.append(piece)
            self.is_whole = piece.finish_reason is not None
            yield piece

    def end(self) -> None:
        """The answer is given and reviewed: it may be compared now."""
        self.shadow.begin(self)

    def request(self, engine: Answers) -> GenerateRequest:
        """The same question to another engine, in its own chat template.

        Raises:
            DataError: it does not fit, or the engine would not choose tokens so.
        """
        check_sampling(engine.name, self.sampling)
        if not isinstance(self.body, ChatRequest):
            made = ask_text(engine, self.turns[0].content, self.sampling)
        elif isinstance(engine, Template) and not engine.has_chat_template:
            raise DataError("the shadow has no chat template", "choose one that was tuned to chat")
        elif chat := self.body.chat:
            made = ask_chat(engine, chat, self.sampling)
        else:
            made = ask_messages(engine, self.turns, self.sampling)
        return replace(made, owner=self.asked.caller, whole=True)


@dataclass(slots=True)
class Shadow:
    """The second model, one answer at a time, and what is kept of each comparison."""

    engine: Answers
    name: str
    file: Path
    """Where a line is added for each comparison."""
    guard: Guard | None = None
    metrics: Metrics | None = None
    queue: RequestQueue = field(init=False)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    """The comparisons that are not finished."""
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def __post_init__(self) -> None:
        self.queue = RequestQueue(self.engine)

    def watch(
        self, asked: Asked, turns: tuple[Message, ...], sampling: Sampling, body: AnswerRequest
    ) -> Watch:
        """What follows an answer of the served model."""
        return Watch(self, asked, turns, sampling, body)

    def begin(self, watch: Watch) -> None:
        """Compare an answer, once others that wait are compared; nobody waits for it.

        Left out is one whose writing a review ended, and one too many.
        """
        if len(self.tasks) >= MOST_WAITING or not watch.is_whole:
            self._keep(watch, {"outcome": "left out"})
            return
        task = asyncio.get_running_loop().create_task(self._compare(watch))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def end(self) -> None:
        """Compare no more."""
        for task in self.tasks:
            task.cancel()
        self.queue.end()

    async def _compare(self, watch: Watch) -> None:
        async with self._turn:
            began = time.monotonic()
            try:
                request = await self.queue.read(lambda: watch.request(self.engine))
                async with aclosing(self.queue.answer(request)) as pieces:
                    said = [piece async for piece in pieces]
            except (ApiError, DataError) as problem:
                status = problem.status if isinstance(problem, ApiError) else "refused"
                self._keep(watch, {"outcome": "failed", "why": status})
                return
            answer, seconds = join_pieces(said), time.monotonic() - began
            compared = await asyncio.to_thread(self._compared, watch, answer)
        self._keep(watch, {**compared, "ms": round(seconds * 1000), "tokens": answer.tokens})

    def _compared(self, watch: Watch, answer: Piece) -> dict[str, Any]:
        served = join_pieces(watch.parts)
        first, second = (told(each.text, each.calls) for each in (served, answer))
        compared: dict[str, Any] = {
            "outcome": "same" if first == second else "differs",
            "agreement": round(agreement(first, second), 4),
        }
        if self.guard and (report := watch.asked.report):
            question, record = said_by("user", watch.turns), said_by("system", watch.turns)
            context = watch.body.patient_context
            found = self.guard.review(answer.text, question, context, record, answer.calls)
            compared |= {"only_served": _only(report, found), "only_shadow": _only(found, report),
                         "risk_level": [report.risk_level, found.risk_level]}  # fmt: skip
        return compared

    def _keep(self, watch: Watch, told: Mapping[str, Any]) -> None:
        asked = watch.asked
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = {"time": now, "id": asked.id, "choice": asked.choice, "shadow": self.name,
               "served_tokens": asked.tokens, **told}  # fmt: skip
        with open_file(self.file) as file:
            file.write(json.dumps(row) + "\n")
        if self.metrics:
            self.metrics.shadowed(row)


def agreement(one: str, other: str) -> float:
    """How alike two answers are, by their words in order: 1 the same, 0 no word in common.

    Twice the words in the longest matching blocks, over the words of both (`difflib.ratio`).
    """
    mine, theirs = (part_words(text).split() for text in (one, other))
    return difflib.SequenceMatcher(None, mine, theirs, autojunk=False).ratio()


def open_file(path: Path) -> IO[str]:
    """A file to add lines to, that its owner alone can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8")


def _only(one: Report, other: Report) -> list[str]:
    """The rules that found something in one answer alone."""
    return sorted({each.rule for each in one.findings} - {each.rule for each in other.findings})
