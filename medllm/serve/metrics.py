"""What a server counts, for Prometheus: numbers only, on a port of this machine."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

from medllm.clinical.report import Report
from medllm.errors import SetupError
from medllm.measures.drift import Drift

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Upper bounds of the buckets of latencies."""
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1)
FIRST_ERROR = 400
TOKENS = tuple(2**power for power in range(4, 14))
FINDINGS = (1, 2, 3)
MARKS = range(1, 6)
ROUTES = ("/v1/chat/completions", "/v1/completions", "/generate")
OUTCOMES = ("stop", "length", "tool_calls", "content_filter", "left", "400", "500", "503")
STATUSES = ("400", "401", "403", "404", "408", "413", "415", "429", "499", "500", "503")
OF_VITALS = (("vital.altered", "major"), ("vital.invented", "moderate"))
FIRST_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        here: Any = {"namespace": "medllm", "registry": self.registry}
        self._answers = Counter(
            "answers", "Answers begun, by how they ended: a finish_reason, a status, or left.",
            ("route", "outcome"), **here,
        )  # fmt: skip
        self._errors = Counter("errors", "Responses of status 400 and above.", ("status",), **here)
        self._seconds = Histogram(
            "answer_seconds", "From the request to the last token.", buckets=SECONDS, **here
        )
        self._first = Histogram(
            "first_token_seconds", "From the request to the first token that the model writes.",
            buckets=FIRST_SECONDS, **here,
        )  # fmt: skip
        self._tokens = Counter("tokens", "Tokens read and written.", ("kind",), **here)
        self._findings = Counter(
            "findings", "Findings of the review.", ("rule", "severity"), **here
        )
        self._all_findings = Counter("all_findings", "Findings, whatever found them.", **here)
        self._blocked = Counter("blocked_answers", "Answers that were withheld.", **here)
        self._marks = Counter("feedback", "Feedback, by helpfulness.", ("helpfulness",), **here)
        self._spreads = {"prompt_tokens": Drift(TOKENS), "answer_tokens": Drift(TOKENS),
                         "findings": Drift(FINDINGS)}  # fmt: skip
        told = "Population stability index of the last 500 answers against the first 500."
        drift = Gauge("drift", told, ("of",), **here)
        for name, spread in self._spreads.items():
            drift.labels(name).set_function(spread.index)
        self._running = Gauge("requests", "Requests that are running or waiting.", **here)
        self._ready = Gauge("ready", "1 while the model takes requests, else 0.", **here)
        self._count_second(here)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Tell of what may come before it does: where a series begins, Prometheus sees no increase.

        So the first error, and a burst of them, would raise no alert.
        """
        for route, outcome in product(ROUTES, OUTCOMES):
            self._answers.labels(route, outcome)
        for status in STATUSES:
            self._errors.labels(status)
        for rule, severity in OF_VITALS:
            self._findings.labels(rule, severity)
        for mark in MARKS:
            self._marks.labels(str(mark))
        for kind in ("prompt", "answer"):
            self._tokens.labels(kind)

    def _count_second(self, here: Any) -> None:
        """What is counted of a shadow or a canary."""
        from prometheus_client import Counter, Histogram

        told = "Answers of the canary, by how they ended."
        self._canary = Counter("canary_answers", told, ("outcome",), **here)
        told = "Findings of the review in the canary's answers."
        self._canary_findings = Counter("canary_findings", told, ("severity",), **here)
        told = "Answers asked of the shadow: same, differs, failed, left out."
        self._shadow = Counter("shadow_answers", told, ("outcome",), **here)
        told = "Words that both answers have in common, in order."
        self._agreement = Histogram("shadow_agreement", told, buckets=SHARES, **here)
        told = "From the question to the shadow's last token."
        self._shadow_seconds = Histogram("shadow_seconds", told, buckets=SECONDS, **here)
        told = "Rules that found something in one answer alone."
        self._shadow_findings = Counter("shadow_findings", told, ("rule", "of"), **here)

    def watch(self, running: Callable[[], int], is_ready: Callable[[], bool]) -> None:
        """Ask these whenever the numbers are read."""
        self._running.set_function(running)
        self._ready.set_function(is_ready)

    def certificate(self, ends: float) -> None:
        """Tell when the certificate that this server shows ends, in seconds since 1970."""
        from prometheus_client import Gauge

        told = "When the certificate ends that was read at the start, in seconds since 1970."
        Gauge("medllm_certificate_ends", told, registry=self.registry).set(ends)

    def error(self, status: int) -> None:
        """Count a response of an error."""
        self._errors.labels(str(status)).inc()

    def first_token(self, seconds: float) -> None:
        """Count the time to the first token."""
        self._first.observe(seconds)

    def ended(self, route: str, outcome: str, seconds: float) -> None:
        """Count a request that the model was asked."""
        self._answers.labels(route, outcome).inc()
        self._seconds.observe(seconds)

    def answered(self, prompt_tokens: int | None, tokens: int, findings: int) -> None:
        """Take an answer into account, to see whether later ones differ from the first."""
        if prompt_tokens is not None:
            self._spreads["prompt_tokens"].add(prompt_tokens)
        self._spreads["answer_tokens"].add(tokens)
        self._spreads["findings"].add(findings)

    def marked(self, helpfulness: int) -> None:
        """Count what somebody said of an answer."""
        self._marks.labels(str(helpfulness)).inc()

    def reviewed(self, report: Report) -> None:
        """Count what a review found."""
        for each in report.findings:
            self._findings.labels(each.rule, each.severity).inc()
        self._all_findings.inc(len(report.findings))
        if report.is_blocked:
            self._blocked.inc()

    def of_canary(self, outcome: str, report: Report | None) -> None:
        """Count an answer of the canary, which is among all answers, too."""
        self._canary.labels(outcome).inc()
        for each in report.findings if report else ():
            self._canary_findings.labels(each.severity).inc()

    def shadowed(self, told: Mapping[str, Any]) -> None:
        """Count what came of comparing an answer with the shadow's."""
        self._shadow.labels(told["outcome"]).inc()
        if "agreement" in told:
            self._agreement.observe(told["agreement"])
            self._shadow_seconds.observe(told["ms"] / 1000)
        for which in ("served", "shadow"):
            for rule in told.get(f"only_{which}", ()):
                self._shadow_findings.labels(rule, which).inc()

    def tokens(self, kind: str, count: int) -> None:
        """Count tokens of prompts or of answers."""
        self._tokens.labels(kind).inc(count)


class Counted:
    """Counts the responses of errors."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass the request on, and look at the status that goes back."""

        async def counted(message: "Message") -> None:
            if message["type"] == "http.response.start" and message["status"] >= FIRST_ERROR:
                self._metrics.error(message["status"])
            await send(message)

        await self._app(scope, receive, counted)


@contextmanager
def told_on(metrics: Metrics, port: int) -> Iterator[None]:
    """Tell the numbers at `http://127.0.0.1:<port>/metrics` meanwhile.

    Raises:
        SetupError: the port is taken.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, "127.0.0.1", metrics.registry)
    except OSError as problem:
        message = f"cannot tell metrics on 127.0.0.1:{port}: {problem.strerror}"
        raise SetupError(message, "choose another serve.metrics_port") from problem
    try:
        yield
    finally:
        _end(server, thread)


def _end(server: "WSGIServer", thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
