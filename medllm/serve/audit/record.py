"""What the audit log tells of a request: who, when, which model, and digests under a key."""

import asyncio
import hmac
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medllm import __version__, console
from medllm.artifacts.own_key import own_key
from medllm.clinical.report import Report
from medllm.engines.base import Piece
from medllm.places import config_dir
from medllm.serve.audit.chain import AUDIT, HEADS, KEPT_DAYS, Chain, head_path
from medllm.serve.audit.sealed import Seal
from medllm.serve.audit.signing import Signer
from medllm.serve.audit.syslog import Syslog
from medllm.serve.wire import ApiError


class Watched(Protocol):
    """An answer that is compared with another model's."""

    def over(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        """The pieces as the model wrote them, on their way."""

    def end(self) -> None:
        """The answer was given."""


@dataclass(slots=True)
class Asked:
    """A request on its way, as the log will tell it."""

    id: str
    caller: str
    route: str
    prompt: str
    """Digest of the texts of the prompt, under the key of the log."""
    prompt_tokens: int | None
    began: float = field(default_factory=time.monotonic)
    is_further: bool = False
    """Whether an answer before it has the same prompt, whose tokens count once."""
    choice: int | None = None
    """Which of several answers to one request it is."""
    model: str | None = None
    """Which of two models answers."""
    is_canary: bool = False
    """Whether that is the one on trial."""
    watch: Watched | None = None
    question: str = ""
    """What tells the question apart in this process, for feedback; never logged."""
    images: list[str] = field(default_factory=list)
    """Digests of the images, under the key of the log."""
    tokens: int = 0
    calls: set[int] = field(default_factory=set)
    """Which calls of functions went out."""
    finish_reason: str | None = None
    text: Mapping[str, Any] = field(default_factory=dict)
    """What was asked; only for a log that keeps texts."""
    report: Report | None = None
    """What the review of the answer found, where there was one."""

    @property
    def read_tokens(self) -> int:
        """The tokens of the prompt, as far as they are known and to be counted."""
        return 0 if self.is_further else self.prompt_tokens or 0

    @property
    def findings(self) -> list[str]:
        """The rules that found something, without what they found it in."""
        return [each.rule for each in self.report.findings] if self.report else []


def log_folder(named: Path | None, model: str) -> Path:
    """Where the log of a model lies: where it is named to, else in the user's settings."""
    return named or config_dir() / AUDIT / re.sub(r"[^\w.-]+", "-", model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What is kept where, and for how long."""

    days: int = KEPT_DAYS
    text_for: Path | None = None
    """Public keys that texts are encrypted to; unset: no texts are kept."""
    syslog: str | None = None
    """A syslog server that gets a copy without texts."""


def open_log(named: Path | None, model: str, keeping: Keeping = Keeping()) -> "AuditLog":
    """The log of a model, and its keys, made where there are none.

    Raises:
        ConfigError: the address of a syslog server is none.
        SetupError: another server writes it, or it cannot be written; texts cannot be encrypted;
            the syslog server cannot be reached.
    """
    folder, own = log_folder(named, model), config_dir() / AUDIT
    seal = Seal(keeping.text_for) if keeping.text_for else None
    signer = Signer(own / "signing.pem")
    copy = Syslog(keeping.syslog) if keeping.syslog else None
    send = copy.send if copy else None
    chain = Chain(folder, head_path(folder, own / HEADS), signer, keeping.days, send)
    return AuditLog(chain, own_key(), seal, copy)


class AuditLog:
    """Writes a line for each answer, before its last byte goes out."""

    def __init__(
        self, chain: Chain, key: bytes, seal: Seal | None = None, copy: Syslog | None = None
    ) -> None:
        """`key` is for digests of texts, `seal` encrypts them, `copy` gets each line."""
        self._chain, self._key, self._seal, self._copy = chain, key, seal, copy
        self._synced = 0
        self._disk = ThreadPoolExecutor(1, "audit")

    def begin(self, model: Mapping[str, Any]) -> None:
        """The first line of a server: which model it is that answers, and by which version."""
        told: dict[str, Any] = {"model": dict(model), "medllm": __version__}
        if self._seal:
            told["text_for"] = self._seal.keys
        if self._copy:
            told["syslog"] = self._copy.address
        self._chain.append("start", told)
        self._chain.sync()

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are kept, encrypted."""
        return self._seal is not None

    def digest(self, said: str | bytes) -> str:
        """The keyed digest of a text or a file: who has the key finds it again."""
        content = said if isinstance(said, bytes) else said.encode("utf-8", "replace")
        return hmac.new(self._key, content, "sha256").hexdigest()

    async def answered(self, asked: Asked, answer: str) -> None:
        """Tell of an answer; returns when the line is on the disk.

        Raises:
            ApiError: it cannot be written, so that the answer must not go out.
        """
        told = {"answer": self.digest(answer), **self._sealed(asked, answer)}
        with _withheld("the answer is withheld"):
            await asyncio.wrap_future(self._write("answer", asked, told))

    async def noted(self, event: str, caller: str, **told: Any) -> None:
        """Tell what a caller does besides asking; returns when the line is on the disk.

        Raises:
            ApiError: it cannot be written, so that it must not be done.
        """
        with _withheld("this is not done"):
            await asyncio.wrap_future(self._add(event, {"caller": caller, **told}))

    def failed(self, asked: Asked, problem: BaseException | None, said: str) -> None:
        """Tell of a request that got no whole answer, and what `said`; on the disk soon."""
        is_left = isinstance(problem, asyncio.CancelledError | GeneratorExit)
        left = "left" if is_left else type(problem).__name__
        why = problem.status if isinstance(problem, ApiError) else left
        try:
            self._write("no answer", asked, {"why": why, **self._sealed(asked, said)})
        except OSError as failure:  # nothing goes out that it should have told of
            console.notice(f"server: the audit log lacks a line: {failure.strerror}")

    def _sealed(self, asked: Asked, answer: str) -> dict[str, str]:
        return {"text": self._seal.seal({**asked.text, "answer": answer})} if self._seal else {}

    def _write(self, event: str, asked: Asked, more: Mapping[str, Any]) -> "Future[None]":
        told = {
            "id": asked.id,
            "caller": asked.caller,
            "route": asked.route,
            "prompt": asked.prompt,
            "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": asked.tokens,
            "finish_reason": asked.finish_reason,
            "findings": asked.findings,
            "blocked": bool(asked.report and asked.report.is_blocked),
            "ms": round((time.monotonic() - asked.began) * 1000),
        }
        for name in ("choice", "model"):
            if (value := getattr(asked, name)) is not None:
                told[name] = value
        if asked.images:
            told["images"] = asked.images
        if asked.calls:
            told["tool_calls"] = len(asked.calls)
        return self._add(event, told | dict(more))

    def _add(self, event: str, told: Mapping[str, Any]) -> "Future[None]":
        """Add a line; what comes back is done when it is on the disk."""
        head = self._chain.append(event, told)
        return self._disk.submit(self._sync_to, head.number)

    def _sync_to(self, number: int) -> None:
        """One write of the disk for all lines that wait for it."""
        if self._synced < number:
            reached = self._chain.last.number
            self._chain.sync()
            self._synced = reached

    def close(self) -> None:
        """The last line, signed."""
        self._disk.shutdown()
        try:
            self._chain.append("stop", {})
            self._chain.sync()
        finally:
            self._chain.close()
            if self._copy:
                self._copy.close()


@contextmanager
def _withheld(what: str) -> Iterator[None]:
    """Raises ApiError where the disk takes no line: `what` follows of it."""
    try:
        yield
    except OSError as problem:
        console.notice(f"server: the audit log cannot be written: {problem.strerror}")
        message = f"the audit log cannot be written, so {what}"
        raise ApiError(500, message, "audit_failed") from problem
