"""What the audit log tells of a request: who, when, which model, and digests under a key."""

import asyncio
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm import __version__
from medllm.artifacts.own_key import own_key
from medllm.clinical.report import Report
from medllm.places import config_dir
from medllm.serve.audit.chain import AUDIT, HEADS, Chain, head_path
from medllm.serve.audit.signing import Signer
from medllm.serve.wire import ApiError


@dataclass(slots=True)
class Asked:
    """A request on its way, as the log will tell it; none of its text is kept."""

    id: str
    caller: str
    route: str
    prompt: str
    """Digest of the prompt, under the key of the log."""
    prompt_tokens: int | None
    began: float = field(default_factory=time.monotonic)
    choice: int | None = None
    """Which of several answers to one request it is."""
    question: str = ""
    """What tells the question apart in this process, for feedback; never logged."""
    tokens: int = 0
    finish_reason: str | None = None
    report: Report | None = None
    """What the review of the answer found, where there was one."""

    @property
    def findings(self) -> list[str]:
        """The rules that found something, without what they found it in."""
        return [each.rule for each in self.report.findings] if self.report else []


def log_folder(named: Path | None, model: str) -> Path:
    """Where the log of a model lies: where it is named to, else in the user's settings."""
    return named or config_dir() / AUDIT / re.sub(r"[^\w.-]+", "-", model)


def open_log(named: Path | None, model: str) -> "AuditLog":
    """The log of a model, and its keys, made where there are none.

    Raises:
        SetupError: another server writes it, or it cannot be written.
    """
    folder, own = log_folder(named, model), config_dir() / AUDIT
    signer = Signer(own / "signing.pem")
    chain = Chain(folder, head_path(folder, own / HEADS), signer)
    return AuditLog(chain, own_key())


class AuditLog:
    """Writes a line for each answer, before its last byte goes out."""

    def __init__(self, chain: Chain, key: bytes) -> None:
        """`key` is for digests of texts."""
        self._chain, self._key = chain, key
        self._synced = 0
        self._disk = ThreadPoolExecutor(1, "audit")

    def begin(self, model: Mapping[str, Any]) -> None:
        """The first line of a server: which model it is that answers, and by which version."""
        self._chain.append("start", {"model": dict(model), "medllm": __version__})
        self._chain.sync()

    def digest(self, text: str | Sequence[int]) -> str:
        """The keyed digest of a text or of token ids, by which who has the key finds it again."""
        content = text if isinstance(text, str) else " ".join(map(str, text))
        return hmac.new(self._key, content.encode("utf-8", "replace"), "sha256").hexdigest()

    async def answered(self, asked: Asked, answer: str) -> None:
        """Tell of an answer; returns when the line is on the disk."""
        on_disk = self._write("answer", asked, {"answer": self.digest(answer)})
        await asyncio.wrap_future(on_disk)

    def switched(self, caller: str, *, is_offline: bool) -> None:
        """Tell who took the model offline, or online again."""
        self.noted("offline" if is_offline else "online", caller)

    def noted(self, event: str, caller: str, **told: Any) -> None:
        """Tell what a caller did besides asking; the line is on the disk soon."""
        head = self._chain.append(event, {"caller": caller, **told})
        self._disk.submit(self._sync_to, head.number)

    def failed(self, asked: Asked, problem: BaseException | None) -> None:
        """Tell of a request that got no whole answer; the line is on the disk soon."""
        why = problem.status if isinstance(problem, ApiError) else type(problem).__name__
        self._write("no answer", asked, {"why": why})

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
        if asked.choice is not None:
            told["choice"] = asked.choice
        head = self._chain.append(event, told | dict(more))
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
        self._chain.append("stop", {})
        self._chain.sync()
        self._chain.close()
