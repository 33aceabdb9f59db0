"""The clinical review of answers before they go out.

A safety net, no medical device. It fails closed: an answer that cannot be reviewed is withheld.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medllm.clinical.patient import read_patient
from medllm.clinical.policy import Policy
from medllm.clinical.report import Report, Reviewed
from medllm.clinical.review import review_answer
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.settings import ReviewSettings
from medllm.clinical.text.reading import Reading, read
from medllm.data.example import Message, said_by
from medllm.data.readers.reviewed import load_knowledge
from medllm.engines.base import Piece
from medllm.errors import DataError
from medllm.serve.refusals import log_bug
from medllm.serve.wire import ApiError

WITHHELD = "content_filter"
"""OpenAI's reason of the end of an answer that was withheld."""
MOST_HELD_TOKENS = 64
"""Of a stream whose sentences are reviewed before they go out."""
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

    def review(
        self,
        answer: str,
        question: str | Reading,
        context: Mapping[str, Any] | None,
        record: str | Reading = "",
    ) -> Reviewed:
        """Review an answer; raises DataError for a context that is none."""
        return review_answer(
            answer,
            question=question,
            record=record,
            context=context,
            policy=self.policy,
            knowledge=self._knowledge,
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
    ) -> None:
        """Raises ApiError where the context is none."""
        self.report: Report | None = None
        self._guard, self._context, self._whole = guard, context, whole
        # read once, though a stream is reviewed at each of its sentences
        self._question, self._record = read(said_by("user", asked)), read(said_by("system", asked))
        try:
            read_patient(context)
        except DataError as problem:
            raise ApiError(400, problem.message, param="patient_context") from problem

    async def pieces(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """The answer as it may go out; the last piece says why it ended.

        Raises:
            ApiError: it could not be reviewed, and is withheld.
        """
        if self._whole:
            out = self._at_once(answer)
        elif self._guard.policy.action == "block":
            out = self._by_sentences(answer)
        else:
            out = self._streamed(answer)
        async for piece in out:
            yield piece

    async def _at_once(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        got = [piece async for piece in answer]
        reviewed = await self._review("".join(piece.text for piece in got))
        whole = join_pieces(got)
        if reviewed.report.is_blocked:  # its tokens are words of it, too
            yield Piece(reviewed.text, whole.tokens, WITHHELD, whole.logprob)
        else:
            yield replace(whole, text=reviewed.text)

    async def _streamed(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """As it is written; what the policy adds comes before and after."""
        before = (await self._review("")).report.above
        if before:
            yield Piece("\n\n".join([*before, ""]), 0)
        text, last = "", Piece("", 0)
        async for piece in answer:
            text += piece.text
            if piece.finish_reason:
                last = piece
            else:
                yield piece
        report = (await self._review(text)).report
        yield _ended(last.text, last, report, before)

    async def _by_sentences(self, answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece, None]:
        """Whole sentences, each after a review of all that was said so far."""
        text, out, held = "", 0, 0
        before: list[str] = []
        async for piece in answer:
            text += piece.text
            held += piece.tokens
            end = len(text) if piece.finish_reason else _last_sentence_end(text, out)
            if held >= MOST_HELD_TOKENS and not piece.finish_reason:
                end = max(end, _last_word_end(text, out))
            if end <= out and not piece.finish_reason:
                yield Piece("", piece.tokens)
                continue
            reviewed = await self._review(text[:end])
            if self._blocks(reviewed.report, is_whole=bool(piece.finish_reason)):
                parted = "\n\n" if out else ""
                yield Piece(parted + reviewed.text, piece.tokens, WITHHELD)
                return
            said = text[out:end]
            if not out:
                before = reviewed.report.above
                said = "\n\n".join([*before, said])
            out, held = end, piece.tokens if end < len(text) else 0
            if piece.finish_reason:
                yield _ended(said, piece, reviewed.report, before)
            else:
                yield Piece(said, piece.tokens)

    def _blocks(self, report: Report, *, is_whole: bool) -> bool:
        """Whether a beginning must not go out; what it lacks may still come."""
        blocks = self._guard.policy.blocks
        return any(blocks(each) for each in report.findings if is_whole or each.kind != "missing")

    async def _review(self, answer: str) -> Reviewed:
        reviewing = asyncio.ensure_future(
            asyncio.to_thread(
                self._guard.review, answer, self._question, self._context, self._record
            )
        )
        await asyncio.wait([reviewing])
        if problem := reviewing.exception():  # whatever it is: nothing goes out unreviewed
            log_bug(problem)
            message = "the answer could not be reviewed, and is withheld"
            raise ApiError(500, message, "review_failed") from problem
        reviewed = reviewing.result()
        self.report = reviewed.report
        return reviewed


def join_pieces(pieces: Sequence[Piece]) -> Piece:
    """A whole answer as one piece."""
    known = [piece.logprob for piece in pieces if piece.tokens]
    return Piece(
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        pieces[-1].finish_reason if pieces else None,
        None if None in known or not known else sum(filter(None, known)),
        logprobs=tuple(each for piece in pieces for each in piece.logprobs),
    )


def _ended(text: str, last: Piece, report: Report, before: list[str]) -> Piece:
    """The last piece, with what the policy adds below an answer and was not said above it."""
    late = [each for each in report.above if each not in before]
    return Piece("\n\n".join([text, *late, *report.below]), last.tokens, last.finish_reason)


def _last_sentence_end(text: str, begin: int) -> int:
    """Where the last whole sentence ends after `begin`; `begin` where none does."""
    end = begin
    for found in _SENTENCE_END.finditer(text, begin):
        if not _FIRST_IS_SMALL.match(text, found.end()):
            end = found.end()
    return end


def _last_word_end(text: str, begin: int) -> int:
    """Where the last whole word ends after `begin`: half a number is another number."""
    space = re.search(r"\s\S*$", text[begin:])
    return begin + space.start() if space and space.start() else len(text)
