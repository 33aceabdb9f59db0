"""The clinical review of answers before they go out.

A safety net, no medical device. It fails closed: an answer that cannot be reviewed is withheld.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from medllm.clinical.patient import read_patient
from medllm.clinical.policy import Policy
from medllm.clinical.report import Report
from medllm.clinical.review import read_for_review, review_answer
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.settings import ReviewSettings
from medllm.clinical.text.arguments import told_call
from medllm.clinical.text.reading import Reading
from medllm.data.example import Message, said_by
from medllm.data.readers.reviewed import load_knowledge
from medllm.engines.base import Piece, TokenLogprob
from medllm.engines.servers.chat import ToolCall, join_calls
from medllm.errors import DataError
from medllm.serve.refusals import log_bug
from medllm.serve.wire import ApiError

WITHHELD = "content_filter"
"""OpenAI's reason of the end of an answer that was withheld."""
MOST_HELD_TOKENS = 64
"""Of a stream whose sentences are reviewed before they go out."""
OF_HARM = ("doses", "contraindications", "interactions", "red_flags")
"""The tables of rules of which it is told how many withhold an answer."""
SHORT = 2000
"""Characters whose review is so quick (longest of nothing but prescriptions) that no other thread
pays: it would hold the interpreter as long. What was asked, if it is short, is reviewed with the
answer and not beside an engine that begins to write: it has all processors, and waits for one that
is taken from it. Where the border lies was not measured."""
_SENTENCE_END = re.compile(r"[.!?:][\"')\]]*(?=\s+[^\W\d_])|\n")
"""Not within numbers (`2.5`) or abbreviations that a small letter or a digit follows (`p.o. 5`)."""
_FIRST_IS_SMALL = re.compile(r"\s+[a-z]")


class Guard:
    """Reviews what a model answers; the rules are loaded and tried when it is made."""

    def __init__(self, settings: ReviewSettings) -> None:
        """Raises ConfigError where the hospital's own rules are wrong."""
        self.policy: Policy = settings.build_policy()
        self._knowledge: Knowledge = load_knowledge(settings.rules)
        self.review("Rest.", "What helps?", None)  # builds what is built once

    @property
    def limit(self) -> str | None:
        """How few rules withhold answers, where the policy is to withhold any and not by all."""
        if self.policy.action != "block" or self.policy.block_unverified:
            return None
        told = []
        for name in OF_HARM:
            rows = self._knowledge.rows(name)
            may = [self._knowledge.basis(row).may_block() for row in rows]
            told.append(f"{sum(may)} of {len(may)} {name.replace('_', ' ')}")
        return f"only {', '.join(told)} withhold; the others warn (block_unverified: all do)"

    def read(self, text: str) -> Reading:
        """A question or record as a review reads it, for who reviews with it several times."""
        return read_for_review(text, self._knowledge, is_question=True)

    def review(
        self,
        answer: str,
        question: str | Reading,
        context: Mapping[str, Any] | None,
        record: str | Reading = "",
        calls: Sequence[ToolCall] = (),
    ) -> Report:
        """Review an answer and the calls in it, read as a further part of its text.

        Raises:
            DataError: the context is none.
        """
        told = [told_call(call.name or "", call.arguments) for call in calls]
        return review_answer(
            "\n\n".join([answer, *told]),
            question=question,
            record=record,
            context=context,
            policy=self.policy,
            knowledge=self._knowledge,
        ).report


@dataclass(slots=True)
class Held:
    """The answer of a stream that is reviewed by sentences: what came, and what has gone out."""

    text: str = ""
    out: int = 0
    """Characters of the text that have gone out."""
    tokens: int = 0
    """Tokens of the text since it last went out."""
    calls: list[ToolCall] = field(default_factory=list)
    """Parts of calls; none goes out before the answer is whole."""
    _logprobs: list[tuple[int, TokenLogprob]] = field(default_factory=list)
    _told: int = 0
    _newest: int = 0

    def take(self, piece: Piece) -> None:
        """One more piece; a token's logprob belongs to where its text has come to its end.

        An engine may tell the logprob of a token whose text it still holds back itself, because a
        stop string may begin there: so the texts of the tokens are counted, too.
        """
        self._told = max(self._told, len(self.text))
        self.text += piece.text
        self.calls += piece.calls
        self._newest = 0 if piece.calls else piece.tokens
        self.tokens += self._newest
        for each in piece.logprobs:
            self._told += len(each.text)
            self._logprobs.append((max(self._told, len(self.text)), each))

    @property
    def ready(self) -> int:
        """Where what can go out after a review ends; a call ends the sentence before it."""
        if self.calls:
            return len(self.text)
        end = _last_sentence_end(self.text, self.out)
        if self.tokens >= MOST_HELD_TOKENS:
            end = max(end, _last_word_end(self.text, self.out))
        return end

    def release(self, end: int, *, is_last: bool = False) -> Piece:
        """What goes out, up to `end`: text, and the logprobs of tokens that are wholly in it."""
        said, self.out = self.text[self.out : end], end
        self.tokens = self._newest if end < len(self.text) else 0
        known = [each for place, each in self._logprobs if is_last or place <= end]
        self._logprobs = self._logprobs[len(known) :]
        return Piece(
            said, 0, logprobs=tuple(known), calls=join_calls(self.calls if is_last else ())
        )


class GuardedAnswer:
    """One answer on its way out; `report` is what was found once it has ended."""

    def __init__(
        self,
        guard: Guard,
        asked: Sequence[Message],
        context: Mapping[str, Any] | None,
        *,
        whole: bool,
        unread: tuple[str, ...] = (),
    ) -> None:
        """Raises ApiError where the context is none; `unread` is what of a prompt no rule reads."""
        self.report: Report | None = None
        self._guard, self._context, self._whole, self._unread = guard, context, whole, unread
        # read once, though a stream is reviewed at each of its sentences
        self._question, self._record = (
            guard.read(said_by(role, asked)) for role in ("user", "system")
        )
        self._asked_characters = len(self._question.text) + len(self._record.text)
        try:
            read_patient(context)
        except DataError as problem:
            message = f"{problem.message}; {problem.fix}"
            raise ApiError(400, message, param="patient_context") from problem

    async def pieces(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """The answer as it may go out; the last piece says why it ended.

        Raises:
            ApiError: it could not be reviewed, and is withheld.
        """
        if self._whole and self._asked_characters < SHORT:
            async for piece in self._at_once(answer):
                yield piece
            return
        async with _begun(answer) as coming:
            # the engine reads the prompt meanwhile; reviews of the answer are quick after this one
            above = (await self._review("")).above
            if self._whole:
                out = self._at_once(coming)
            elif self._guard.policy.action == "block":
                out = self._by_sentences(coming)
            else:
                out = self._streamed(coming, above)
            async for piece in out:
                yield piece

    async def _at_once(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        whole = join_pieces([piece async for piece in answer])
        report = await self._review(whole.text, whole.calls)
        text = report.render(whole.text)
        if report.is_blocked:  # its tokens are words of it, too
            yield Piece(text, whole.tokens, WITHHELD, whole.logprob)
        else:
            yield replace(whole, text=text if whole.text else text.strip())

    async def _streamed(
        self, answer: AsyncIterator[Piece], before: list[str]
    ) -> AsyncGenerator[Piece, None]:
        """As it is written; what the policy adds comes before and after."""
        if before:
            yield Piece("\n\n".join([*before, ""]), 0)
        text, calls, last = "", list[ToolCall](), Piece("", 0)
        async for piece in answer:
            text += piece.text
            calls += piece.calls
            if piece.finish_reason:
                last = piece
            else:
                yield piece
        report = await self._review(text, join_calls(calls))
        yield _ended(last, report, before)

    async def _by_sentences(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """Whole sentences, each after a review of all that was said so far; calls at the end."""
        held, before = Held(), list[str]()
        async for piece in answer:
            held.take(piece)
            is_last = piece.finish_reason is not None
            end = len(held.text) if is_last else held.ready
            if end <= held.out and not is_last:
                yield Piece("", piece.tokens)
                continue
            calls = join_calls(held.calls) if is_last else ()
            report = await self._review(held.text[:end], calls)
            if self._blocks(report, is_whole=is_last):
                parted = "\n\n" if held.out else ""
                yield Piece(parted + report.render(""), piece.tokens, WITHHELD)
                return
            is_first = not held.out
            out = held.release(end, is_last=is_last)
            if is_first:
                before = report.above
                out = replace(out, text="\n\n".join([*before, out.text]))
            out = replace(out, tokens=piece.tokens, finish_reason=piece.finish_reason)
            yield _ended(out, report, before) if is_last else out

    def _blocks(self, report: Report, *, is_whole: bool) -> bool:
        """Whether a beginning must not go out; what it lacks may still come."""
        blocks = self._guard.policy.blocks
        return any(blocks(each) for each in report.findings if is_whole or each.kind != "missing")

    async def _review(self, answer: str, calls: Sequence[ToolCall] = ()) -> Report:
        review = partial(
            self._guard.review, answer, self._question, self._context, self._record, calls
        )
        written = (answer, *(call.arguments for call in calls))
        is_short = self._asked_characters + sum(map(len, written)) < SHORT

        async def reviewed() -> Report:
            return review() if is_short else await asyncio.to_thread(review)

        reviewing = asyncio.ensure_future(reviewed())
        await asyncio.wait([reviewing])
        if problem := reviewing.exception():  # whatever it is: nothing goes out unreviewed
            log_bug(problem)
            message = "the answer could not be reviewed, and is withheld"
            raise ApiError(500, message, "review_failed") from problem
        found = reviewing.result()
        self.report = replace(found, not_checked=(*found.not_checked, *self._unread))
        return self.report


@asynccontextmanager
async def _begun(answer: AsyncIterator[Piece]) -> AsyncIterator[AsyncIterator[Piece]]:
    """The answer, whose first piece is asked for at once; whoever leaves before it ends that."""

    async def ask() -> Piece | None:
        return await anext(answer, None)

    async def pieces() -> AsyncIterator[Piece]:
        if (begun := await first) is not None:
            yield begun
            async for piece in answer:
                yield piece

    first = asyncio.ensure_future(ask())
    try:
        yield pieces()
    finally:
        first.cancel()
        await asyncio.wait([first])
        # an error is taken in any case, else asyncio logs it, and with it perhaps text
        first.cancelled() or first.exception()


def join_pieces(pieces: Sequence[Piece]) -> Piece:
    """A whole answer as one piece."""
    known = [piece.logprob for piece in pieces if piece.tokens]
    return Piece(
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        pieces[-1].finish_reason if pieces else None,
        None if None in known or not known else sum(filter(None, known)),
        logprobs=tuple(each for piece in pieces for each in piece.logprobs),
        calls=join_calls(call for piece in pieces for call in piece.calls),
    )


def _ended(last: Piece, report: Report, before: list[str]) -> Piece:
    """The last piece, with what the policy adds below an answer and was not said above it."""
    late = [each for each in report.above if each not in before]
    return replace(last, text="\n\n".join([last.text, *late, *report.below]))


def _last_sentence_end(text: str, begin: int) -> int:
    """Where the last whole sentence ends after `begin`; `begin` where none does."""
    end = begin
    for found in _SENTENCE_END.finditer(text, begin):
        if not _FIRST_IS_SMALL.match(text, found.end()):
            end = found.end()
    return end


def _last_word_end(text: str, begin: int) -> int:
    """Where the last whole word ends after `begin`: half a number is another number.

    Where there is no space, as in compact JSON, a word ends at any mark that stands in no number.
    """
    for mark in (r"\s\S*$", r"[^\w.,][\w.,]*$"):
        last = re.search(mark, text[begin:])
        if last and last.start():
            return begin + last.start()
    return len(text)
