"""The engine for a model that another server has: Ollama, LM Studio, vLLM, llama-server.

The forms are OpenAI's (https://platform.openai.com/docs/api-reference/chat). Such a server applies
its own chat template, and what it does not honour it mostly ignores without a word: so only fields
that all of them have are sent.
"""

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from ipaddress import ip_address
from math import inf
from typing import Any
from urllib.parse import SplitResult, urlsplit

from medllm import console
from medllm.engines.base import EngineDown, GenerateRequest, Piece, Sampling
from medllm.engines.sampling import check_sampling
from medllm.engines.servers.chat import Chat, read_calls
from medllm.engines.servers.http import Requests, lines_of
from medllm.errors import ConfigError, DataError, SetupError
from medllm.models.chat.prompts import check_bytes
from medllm.places import is_loopback

KEY_VARIABLE = "MEDLLM_UPSTREAM_KEY"
PARALLEL = 16
"""Requests at once; the server there has a queue of its own."""
ASSUMED_CONTEXT = 8192
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is of another form than OpenAI's."""
REFUSED = {400, 413, 422}
GONE = "the server that has the model does not answer as it should"
ENDPOINT = r"(/v1)?(/chat/completions|/completions|/models)?/*$"
"""How an address may end that somebody took from an example."""
START_SECONDS = 10.0


def check_place(url: str, *, allow_remote: bool) -> None:
    """Raises ConfigError where patients' text would leave this machine and nobody said it may."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
        raise ConfigError(
            f"no address of a server: {url:.80}", "write it as http://127.0.0.1:11434"
        )
    if not _is_plain(parts.hostname):
        message = f"{parts.hostname} is no address that every program reads alike"
        raise ConfigError(message, "write all four numbers, as 127.0.0.1")
    if parts.username or parts.password:
        raise ConfigError("an address holds no key", f"put the key into {KEY_VARIABLE}")
    if not allow_remote and not is_loopback(parts.hostname):
        message = f"{parts.hostname} is not this machine: what is asked would leave it"
        raise ConfigError(message, "name a loopback address, or allow it: allow_remote: true")


def _has_port(parts: SplitResult) -> bool:
    """Whether its port is one; the system would cut a larger number, and reach another port."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _is_plain(host: str) -> bool:
    """Whether it is a name, or an IP address as all programs write it; 2130706433 is 127.0.0.1."""
    if not re.search(r"(^|\.)(\d+|0x[\da-f]*)\.?$", host):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class OpenAIEngine:
    """A model that answers elsewhere; it has no token ids."""

    name = "openai"
    unused_settings: Mapping[str, Any] = {}
    parallel = PARALLEL
    reads_images = True
    is_ready = True
    """Whether it is there shows when it is asked."""

    def __init__(self, url: str, model: str | None = None, n_ctx: int | None = None) -> None:
        """Ask the server which models it has.

        Args:
            url: Its address, with or without `/v1` and what stands behind that.
            model: The model's name there; may be left out where there is one.
            n_ctx: The tokens of context, where the server does not tell them.

        Raises:
            SetupError: the server cannot be reached, or refuses the key.
            ConfigError: it has no such model, or several and none is named.
        """
        self.url = re.sub(ENDPOINT, "", url) + "/v1"
        found = self._list_models(model)
        self.model = _choose([*found], model, self.url)
        told = found[self.model]
        if not (n_ctx or told):
            console.notice(
                f"{self.url} does not tell the context of {self.model}: "
                f"{ASSUMED_CONTEXT:,} tokens are assumed; n_ctx says what it is"
            )
        self.context_length = n_ctx or told or ASSUMED_CONTEXT
        self._requests, self._is_uncounted = Requests(self.url, headers()), False

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The answer as it comes, or in one piece where `request.whole` asks for no more.

        Raises:
            DataError: the server refuses the request, or it comes with images.
            EngineDown: the server is not there, or fails.
        """
        path, body = self.body_of(request)
        try:
            async with aclosing(self._pieces(path, body)) as pieces:
                async for piece in pieces:
                    yield piece
        except (EngineDown, *UNREADABLE) as problem:
            raise EngineDown(GONE) from problem

    def read_chat(self, chat: Chat, sampling: Sampling) -> tuple[int, ...]:
        """No token ids: that server alone knows them, and whether its model takes the rest.

        Raises:
            UnfitPrompt: its texts are far too long.
        """
        texts = (text for text in chat.texts if not text.startswith("data:image/"))
        check_bytes(texts, self.context_length)
        return ()

    def close(self) -> None:
        """Nothing is held."""

    def body_of(self, request: GenerateRequest) -> tuple[str, dict[str, Any]]:
        """Where a request goes below the address, and as what.

        Raises:
            DataError: it comes with images, or is to be sampled as the server may not do.
        """
        check_sampling(self.name, request.sampling)
        if request.images:
            message = "images are not sent to another server"
            raise DataError(message, "leave the images out, or serve a model that reads them here")
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": sampling.max_tokens,
            "temperature": 0 if sampling.is_greedy else sampling.temperature,
            "top_p": sampling.top_p,
            "stream": not request.whole,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed_32
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        for name in ("presence_penalty", "frequency_penalty"):
            if name in sampling.named:
                body[name] = sampling.named[name]
        if request.chat:
            return "/chat/completions", body | request.chat.body
        if request.messages:
            turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
            return "/chat/completions", {**body, "messages": turns}
        return "/completions", {**body, "prompt": request.prompt}

    async def _pieces(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        for asked in tries(body):
            async with self._requests.post(path, asked) as told:
                if told.status in REFUSED and asked is not body:
                    continue
                if told.status != 200 or not body["stream"]:
                    answer = check_answer(told.status, await told.read())
                    yield self.noted(read_whole(answer, body["max_tokens"]))
                    return
                streamed = Streamed(body["max_tokens"])
                async for line in lines_of(told):
                    if piece := streamed.read(line):
                        yield piece
                yield self.noted(streamed.last())
                return

    def noted(self, last: Piece) -> Piece:
        """The last piece of an answer; says once that the server counts no tokens."""
        if last.prompt_tokens is None and not self._is_uncounted:
            console.notice(f"{self.url} tells no tokens: pieces of answers are counted, no prompts")
            self._is_uncounted = True
        return last

    def _list_models(self, named: str | None) -> dict[str, int | None]:
        """The server's models, with their context where it tells; where it lists none, `named`."""
        import httpx

        fix = f"see that the server runs, and that {KEY_VARIABLE} holds its key if it has one"
        try:
            response = httpx.get(
                f"{self.url}/models", headers=headers(), timeout=START_SECONDS, trust_env=False
            )
            if response.status_code == 404 and named:
                return {named: None}
            if response.status_code != 200:
                raise SetupError(_unlisted(self.url, response.status_code), fix)
            return {str(each["id"]): _context(each) for each in response.json()["data"]}
        except httpx.HTTPError as problem:
            message = f"{self.url} does not list its models ({problem or type(problem).__name__})"
            raise SetupError(message, fix) from problem
        except UNREADABLE as problem:
            message = f"{self.url} does not list its models in OpenAI's form"
            raise SetupError(message, "see that the address is that of such a server") from problem


def headers() -> dict[str, str]:
    """What carries the key, where the environment has one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _unlisted(url: str, status: int) -> str:
    why = "it refuses the key" if status in {401, 403} else "it answers with the status"
    return f"{url} does not list its models: {why} ({status})"


def _context(model: Mapping[str, Any]) -> int | None:
    """The tokens of context that a server tells of a model."""
    told = model.get("max_model_len") or (model.get("meta") or {}).get("n_ctx_train")
    return told if isinstance(told, int) and told > 0 else None


def _choose(names: list[str], name: str | None, url: str) -> str:
    if name in names or (name is None and len(names) == 1):
        return name or names[0]
    message = f"{url} has no model '{name}'" if name else f"{url} has {len(names)} models"
    there = ", ".join(names[:8]) or "it has none"
    raise ConfigError(message, f"name one with --model (evaluate: --model URL#NAME): {there}")


def check_answer(status: int, content: bytes) -> Any:
    """The answer as plain data.

    What a server says of an error may quote the question, and is not told.

    Raises:
        DataError: the server refuses the request.
        EngineDown: it fails.
    """
    if status == 200:
        return json.loads(content)
    if status in REFUSED:
        message = f"the server behind refuses the request ({status})"
        raise DataError(message, "ask less, or see what that server takes")
    raise EngineDown(f"{GONE}: its status is {status}")


def tries(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bodies to ask with: some servers refuse to be asked for the tokens of a stream."""
    counted = {**body, "stream_options": {"include_usage": True}}
    return [counted, body] if body["stream"] else [body]


class Streamed:
    """A streamed answer: words may come after the reason of its end, and its tokens after both."""

    def __init__(self, most: int) -> None:
        self._most, self._is_done, self._written = most, False, 0
        self._usage: tuple[int, int] | None = None
        self._reason: str | None = None

    def read(self, line: str) -> Piece | None:
        """The piece in a line; None where it has none, or the answer is done.

        Raises:
            EngineDown: it tells an error.
        """
        data = line[5:].strip() if line.startswith("data:") else ""
        self._is_done |= data == "[DONE]"
        if self._is_done or not data:
            return None
        event = json.loads(data)
        self._usage = read_usage(event) or self._usage
        piece = read_event(event) or Piece("", 0)
        self._reason = piece.finish_reason or self._reason
        self._written += piece.tokens
        return replace(piece, finish_reason=None) if piece.tokens else None

    def last(self) -> Piece:
        """The end, with its reason and the tokens that the server counted.

        Raises:
            EngineDown: the stream is cut off: what came may not be whole.
        """
        if not (self._is_done or self._reason):
            raise EngineDown(GONE)
        read, tokens = self._usage or (None, self._written)
        reason = _reason(self._reason, tokens, self._most)
        return Piece("", tokens - self._written, reason, prompt_tokens=read)


def _reason(told: str | None, tokens: int, most: float) -> str:
    """Why an answer ended; where the server does not tell, its tokens do."""
    return told or ("length" if tokens >= most else "stop")


def read_event(event: Mapping[str, Any]) -> Piece | None:
    """The piece in an event of a stream; None where it has none.

    Raises:
        EngineDown: it tells an error.
    """
    if event.get("error") or not event.keys() & {"choices", "usage"}:
        raise EngineDown(GONE)
    if not event.get("choices"):
        return None
    choice = event["choices"][0]
    delta = (choice["delta"] or {}) if "delta" in choice else {"content": choice["text"]}
    text, calls = _text(delta), read_calls(delta.get("tool_calls"))
    reason = choice.get("finish_reason") or None
    piece = Piece(text, 1 if text or calls else 0, reason, calls=calls)
    return piece if text or calls or reason else None


def read_usage(answer: Mapping[str, Any]) -> tuple[int, int] | None:
    """The tokens of prompt and answer that a server counted; None where it tells none."""
    usage = answer.get("usage") or {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None


def read_whole(answer: Mapping[str, Any], most: float = inf) -> Piece:
    """A whole answer of `most` tokens at most, as one piece.

    Raises:
        LookupError, TypeError, AttributeError: it is none.
    """
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    message = choice["message"] if "message" in choice else {"content": choice["text"]}
    calls, tokens = read_calls(message.get("tool_calls")), usage.get("completion_tokens") or 0
    reason = _reason(choice.get("finish_reason"), tokens, most)
    read, _ = read_usage(answer) or (None, 0)
    return Piece(_text(message), tokens, reason, calls=calls, prompt_tokens=read)


def _text(message: Mapping[str, Any]) -> str:
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError("an answer that is no text")
    return text


def one_call(piece: Piece) -> Piece:
    """A piece of an answer that may call one function: with a second call it ends.

    For servers that heed `parallel_tool_calls: false` with few models, or in new versions alone.
    """
    if not any(call.index for call in piece.calls):
        return piece
    first = tuple(call for call in piece.calls if not call.index)
    return replace(piece, calls=first, finish_reason="tool_calls")
