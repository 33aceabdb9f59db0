"""A server with a model of characters, as OpenAI's interface of before 2024 tells likelihoods."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from medllm.serve.server import running_server

CONTEXT = 900


def logprob_of(before: str, character: str) -> float:
    """What the model expects: it hangs on the last character alone."""
    return -0.5 - (ord(before) * 7 + ord(character) * 3) % 11 / 4


class Server:
    """What it is asked, and how it differs from an honest one."""

    def __init__(self, *, key: str | None = None, shows_begin: bool = True, **fault: Any) -> None:
        self.asked: list[dict[str, Any]] = []
        self.key = key
        self.shows_begin = shows_begin
        """Whether the token of the beginning is told of, as vLLM does and llama-cpp-python not."""
        self.fault = fault
        self.most = CONTEXT
        """The most characters of a prompt."""
        self.busy = 0
        """How many of the next requests it refuses as busy."""

    def answer(self, path: str, body: dict[str, Any]) -> Response:
        self.asked.append(body)
        if self.busy:
            self.busy -= 1
            return JSONResponse({"detail": "busy"}, 429, {"retry-after": "0"})
        prompt = body["prompt"] if path == "completions" else body["messages"][-1]["content"]
        if len(prompt) > self.most:
            return JSONResponse({"error": {"message": prompt}}, 400)
        usage = {"prompt_tokens": len(prompt) + 1, "completion_tokens": 1}
        if path != "completions":
            return self._chat(prompt, usage, streams=body["stream"])
        echoed = body.get("echo") and "echo" not in self.fault
        choice: dict[str, Any] = {
            "text": prompt + "!" if echoed else "!",
            "finish_reason": "length",
        }
        if echoed:
            choice["logprobs"] = self._logprobs(prompt)
        return JSONResponse({"choices": [choice], "usage": usage} | self.fault.get("answer", {}))

    def _logprobs(self, prompt: str) -> dict[str, Any]:
        begin = ["<s>"] if self.shows_begin else []
        known = [logprob_of(a, b) for a, b in zip(">" + prompt, prompt + "!", strict=True)]
        known = self.fault.get("logprobs", known)
        return {
            "tokens": [*begin, *prompt, "!"],
            "token_logprobs": [*([None] * len(begin)), *known],
        }

    def _chat(self, prompt: str, usage: dict[str, int], *, streams: bool) -> Response:
        if not streams:
            message = {"role": "assistant", "content": f"You said: {prompt}"}
            choice = {"message": message, "finish_reason": "stop"}
            return JSONResponse({"choices": [choice], "usage": usage | {"completion_tokens": 7}})
        deltas = [{"content": "You said: "}, {"content": prompt}, {}]
        events: list[dict[str, Any]] = [
            {"choices": [{"delta": each, "finish_reason": None if each else "stop"}]}
            for each in deltas
        ]
        events.append({"choices": [], "usage": usage | {"completion_tokens": 7}})
        lines = [f"data: {json.dumps(each)}\n\n" for each in events]
        return Response("".join([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")


@contextmanager
def served(server: Server) -> Iterator[str]:
    """Its address, meanwhile."""
    app = FastAPI()
    app.state.end_answers = lambda: None
    app.state.count_error = lambda status: None

    def refused(request: Request) -> Response | None:
        wanted = None if server.key is None else f"Bearer {server.key}"
        is_known = request.headers.get("authorization") == wanted
        return None if is_known or wanted is None else Response("", 401)

    @app.get("/v1/models")
    def models(request: Request) -> Response:
        known = [{"id": "org/theirs", "max_model_len": CONTEXT}]
        return refused(request) or JSONResponse({"data": known})

    @app.post("/v1/{path:path}")
    async def complete(path: str, request: Request) -> Response:
        return refused(request) or server.answer(path, await request.json())

    with running_server(app) as url:
        yield url
