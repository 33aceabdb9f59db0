"""The engine for a model at any OpenAI-compatible address, for work that waits for whole answers.

It writes, many answers at once. The likelihood of given text it knows only where the server's
/v1/completions takes `echo` with `logprobs`, which is tried before it is relied on: llama-server
drops `echo` without a word, and what it then scores is chance.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from medllm.engines.base import EngineDown, GenerateRequest, Piece
from medllm.engines.servers.echo import EchoEngine, why_not
from medllm.engines.servers.http import Lines
from medllm.engines.servers.openai import (
    GONE,
    PARALLEL,
    REFUSED,
    START_SECONDS,
    UNREADABLE,
    OpenAIEngine,
    Streamed,
    check_answer,
    headers,
    read_whole,
    tries,
)
from medllm.errors import ConfigError, DataError
from medllm.places import is_loopback

BUSY = {429, 503}
TRIES = 6
LONGEST_PAUSE = 30.0
"""Seconds between two tries of a server that is busy, whatever it asks for."""


class AddressEngine(OpenAIEngine):
    """A model at an address: it writes answers, one after another or many at once."""

    batch_size = PARALLEL

    @cached_property
    def _http(self) -> Any:
        import httpx

        patient = httpx.Timeout(None, connect=START_SECONDS)
        return httpx.Client(base_url=self.url, headers=headers(), timeout=patient, trust_env=False)

    @property
    def asked(self) -> dict[str, Any]:
        """What a result must say of where it was asked."""
        host = urlsplit(self.url).hostname or ""
        return {"address": self.url, "served_as": self.model, "left_machine": not is_loopback(host)}

    @cached_property
    def likelihood(self) -> EchoEngine:
        """It as an engine that scores text.

        Raises:
            ConfigError: the server gives no likelihood of a prompt; says how that showed.
        """
        engine = EchoEngine(self._post_completion, self.context_length, self.asked)
        if reason := why_not(engine):
            message = f"{self.url} gives no likelihood of text: {reason}"
            fix = "ask it with a task that it answers in words, or name the model's own folder"
            raise ConfigError(message, fix)
        return engine

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer as it comes; the last piece corrects how many tokens it has.

        Raises:
            DataError: the server refuses the request, or it comes with images.
            EngineDown: the server is not there, or fails.
        """
        path, body = self.body_of(replace(request, whole=False))
        for asked in tries(body):
            with _foreign(), self._http.stream("POST", path, json=asked) as told:
                if told.status_code in REFUSED and asked is not body:
                    continue
                if told.status_code != 200:
                    check_answer(told.status_code, told.read())
                streamed = Streamed(body["max_tokens"])
                yield from filter(None, map(streamed.read, _lines(told.iter_bytes())))
                yield self.noted(streamed.last())
                return

    def noted(self, last: Piece) -> Piece:
        """The last piece of an answer.

        Raises:
            DataError: what filters there has cut the answer, or withheld it.
        """
        if last.finish_reason == "content_filter":
            message = "a content filter of the server behind cut the answer, or withheld it"
            raise DataError(message, "ask a server without one, or in other words")
        return super().noted(last)

    def generate_batch(
        self, requests: Sequence[GenerateRequest]
    ) -> Generator[tuple[int, Piece | DataError]]:
        """Each answer whole, as it comes; a DataError where the server refuses a request."""
        pool = ThreadPoolExecutor(self.batch_size)
        try:
            asked = {pool.submit(self._whole, each): n for n, each in enumerate(requests)}
            for future in as_completed(asked):
                yield asked[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _whole(self, request: GenerateRequest) -> Piece | DataError:
        try:
            path, body = self.body_of(replace(request, whole=True))
            with _foreign():
                return self.noted(read_whole(self._post(path, body), body["max_tokens"]))
        except DataError as problem:
            return problem

    def _post_completion(self, body: Mapping[str, Any]) -> Any:
        return self._post("/completions", {"model": self.model, **body})

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer as plain data; a server that is busy is asked again some times."""
        with _foreign():
            for _ in range(TRIES):
                response = self._http.post(path, json=body)
                if response.status_code not in BUSY:
                    break
                time.sleep(_pause(response.headers.get("retry-after", "")))
            return check_answer(response.status_code, response.content)


@contextmanager
def _foreign() -> Iterator[None]:
    """Meanwhile what is wrong with a server's answer is an EngineDown."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, *UNREADABLE) as problem:
        raise EngineDown(GONE) from problem


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    lines = Lines()
    for chunk in chunks:
        yield from lines.read(chunk)
    yield from lines.end()


def _pause(asked: str) -> float:
    return min(float(asked) if asked.isdigit() else 1.0, LONGEST_PAUSE)
