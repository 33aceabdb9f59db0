"""The envelope of answers, as OpenAI has it: whole, or in chunks."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from medllm.clinical.report import Report
from medllm.engines.base import Piece, TokenLogprob
from medllm.engines.servers.chat import ToolCall
from medllm.serve.audit.record import Asked


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer as it went out."""

    piece: Piece
    """The whole of it."""
    line: Asked
    """What the audit log tells of it."""
    echo: str = ""
    """The prompt, where it is to stand before the answer."""

    @property
    def report(self) -> Report | None:
        """What its review found."""
        return self.line.report

    @property
    def mean_logprob(self) -> float | None:
        """The mean log-likelihood of its tokens, where it was asked for and the engine knows it."""
        likelihood, tokens = self.piece.logprob, self.piece.tokens
        return None if likelihood is None or not tokens else likelihood / tokens


@dataclass(frozen=True)
class Reply:
    """The envelope of one request's answers."""

    model: str
    chat: bool
    include_usage: bool = False
    clamped: Mapping[str, int] = field(default_factory=dict)
    """What the caller asked more of than there is, and what it gets."""
    random: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def id(self) -> str:
        """By what the caller, the audit log and feedback know the answers."""
        return f"chatcmpl-{self.random}" if self.chat else f"cmpl-{self.random}"

    def whole(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The answers in one object; beside them what the review found in the worst of them."""
        choices = [self._choice(each) for each in outcomes]
        reports = [each.report for each in outcomes if each.report]
        if len(choices) > 1:
            for choice, each in zip(choices, outcomes, strict=True):
                choice |= told_report(each.report)
        worst = max(
            reports, key=lambda report: (report.is_blocked, report.risk_level), default=None
        )
        usage = told_usage([each.line for each in outcomes])
        return self._envelope(choices) | usage | self._clamped | told_report(worst)

    def chunk(
        self,
        index: int,
        finish_reason: str | None = None,
        report: Report | None = None,
        logprobs: dict[str, Any] | None = None,
        **delta: Any,
    ) -> dict[str, Any]:
        """The role, a piece of text as `content`, parts of calls, or the reason of the end."""
        said = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
        said |= {"finish_reason": finish_reason, "logprobs": logprobs}
        chunk = self._envelope([said], index, ".chunk")
        chunk |= {"usage": None} if self.include_usage else {}
        return chunk | told_report(report) | (self._clamped if finish_reason else {})

    def last_chunk(self, lines: Sequence[Asked]) -> dict[str, Any]:
        """The chunk without choices that tells the usage."""
        return self._envelope([], suffix=".chunk") | told_usage(lines)

    def _choice(self, outcome: Outcome) -> dict[str, Any]:
        piece, tell = outcome.piece, chat_logprobs if self.chat else completion_logprobs
        message: dict[str, Any] = {"role": "assistant", "content": piece.text, "refusal": None}
        if piece.calls:
            message |= {"content": piece.text or None, "tool_calls": told_calls(piece.calls)}
        said = {"message": message} if self.chat else {"text": outcome.echo + piece.text}
        return said | {"finish_reason": piece.finish_reason, "logprobs": tell(piece.logprobs)}

    @property
    def _clamped(self) -> dict[str, Any]:
        return {"clamped": dict(self.clamped)} if self.clamped else {}

    def _envelope(
        self, choices: Sequence[dict[str, Any]], first: int = 0, suffix: str = ""
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": f"chat.completion{suffix}" if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [
                {"index": index, "logprobs": None, **each}
                for index, each in enumerate(choices, first)
            ],
        }


def told_usage(lines: Sequence[Asked]) -> dict[str, Any]:
    """The tokens of answers and of their prompts; null where a prompt's are not known."""
    if any(line.prompt_tokens is None for line in lines):
        return {"usage": None}
    read, written = (sum(line.read_tokens for line in lines), sum(line.tokens for line in lines))
    counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {"usage": counts}


def told_report(report: Report | None) -> dict[str, Any]:
    """What the review of an answer found, where there was one."""
    return {"safety_report": report.to_json()} if report else {}


def told_calls(calls: Sequence[ToolCall], *, in_parts: bool = False) -> list[dict[str, Any]]:
    """Calls of functions as OpenAI tells them; in a stream each with its place."""
    return [_told_call(call, {"index": call.index} if in_parts else {}) for call in calls]


def _told_call(call: ToolCall, place: Mapping[str, int]) -> dict[str, Any]:
    begun = {"id": call.id, "type": "function"} if call.id else {}
    named = {"name": call.name} if call.name else {}
    return {**place, **begun, "function": {**named, "arguments": call.arguments}}


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """Logprobs in the form of chats; None where there are none."""
    if not tokens:
        return None
    content = [
        _token(each.text, each.logprob) | {"top_logprobs": [_token(*top) for top in each.top]}
        for each in tokens
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    is_whole = "\N{REPLACEMENT CHARACTER}" not in text
    return {"token": text, "logprob": logprob, "bytes": [*text.encode()] if is_whole else None}


def completion_logprobs(tokens: Sequence[TokenLogprob], begin: int = 0) -> dict[str, Any] | None:
    """Logprobs in the form of completions, from a place of the text on; None where are none."""
    if not tokens:
        return None
    texts = [each.text for each in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [each.logprob for each in tokens],
        "top_logprobs": [None if each.logprob is None else _top(each) for each in tokens],
        "text_offset": [*accumulate(map(len, texts), initial=begin)][:-1],
    }


def _top(token: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the token itself; of several of one text, the likeliest."""
    told: dict[str, float] = {}
    for text, logprob in (*token.top, (token.text, token.logprob or 0.0)):
        told.setdefault(text, logprob)
    return told
