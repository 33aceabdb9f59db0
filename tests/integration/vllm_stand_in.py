#!/usr/bin/env python3
"""A stand-in for the command `vllm`: the flags and the interface of its documentation, no model.

It writes one word for each token, `w0 w1 …`, and ends after STAND_IN_TOKENS of them. It keeps
prompts in blocks under their salt, as vLLM's prefix cache does, and tells what it found there.

With a parser of calls it calls the first tool of a chat twice, with two arguments: it does not heed
`parallel_tool_calls`. Its chat template has a token for each word, and with STAND_IN_TEMPLATE=plain
leaves tools out.
"""

import argparse
import json
import os
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

BLOCK = 16  # tokens that vLLM keeps together
TOKENS = int(os.environ.get("STAND_IN_TOKENS", "6"))
SECONDS = float(os.environ.get("STAND_IN_SECONDS", "0"))
IS_PLAIN = os.environ.get("STAND_IN_TEMPLATE") == "plain"
PARSERS = ("hermes", "llama3_json", "mistral")
ARGUMENTS = ('{"drug": ', '"warfarin"}')
kept: set[tuple[str, tuple[int, ...]]] = set()


def parse() -> argparse.Namespace:
    """The flags of `vllm serve` that medllm uses; any other one ends it, as vLLM does."""
    parser = argparse.ArgumentParser("vllm", allow_abbrev=False)
    serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("model_tag")
    for name in ("uds", "served-model-name", "tokenizer", "lora-modules"):
        serve.add_argument(f"--{name}")
    for name in ("max-model-len", "max-num-seqs", "tensor-parallel-size"):
        serve.add_argument(f"--{name}", type=int)
    serve.add_argument("--pipeline-parallel-size", type=int)
    serve.add_argument("--max-lora-rank", type=int, choices=(8, 16, 32, 64, 128, 256, 320, 512))
    serve.add_argument("--gpu-memory-utilization", type=float)
    serve.add_argument("--dtype", choices=("auto", "half", "float16", "bfloat16", "float32"))
    serve.add_argument("--distributed-executor-backend", choices=("ray", "mp", "uni"))
    serve.add_argument("--load-format", choices=("auto", "safetensors"))
    serve.add_argument("--generation-config", choices=("auto", "vllm"))
    serve.add_argument("--tool-call-parser")
    for name in ("enable-lora", "disable-uvicorn-access-log", "disable-fastapi-docs",
                 "enable-prompt-tokens-details", "enable-auto-tool-choice"):  # fmt: skip
        serve.add_argument(f"--{name}", action="store_true")
    for name in ("enable-prefix-caching", "enable-log-requests"):
        serve.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    parsed = parser.parse_args()
    if parsed.enable_auto_tool_choice and parsed.tool_call_parser not in PARSERS:
        raise KeyError(
            f"invalid tool call parser: {parsed.tool_call_parser} (chose from {PARSERS})"
        )
    return parsed


arguments = parse()
lora = json.loads(arguments.lora_modules) if arguments.lora_modules else None
NAMES = [arguments.served_model_name, *([lora["name"]] if lora else [])]


def found(salt: str, prompt: list[int]) -> int:
    """The tokens of a prompt that are kept already; the rest is kept from here on."""
    blocks = [tuple(prompt[:end]) for end in range(BLOCK, len(prompt), BLOCK)]
    known = sum((salt, block) in kept for block in blocks)
    kept.update((salt, block) for block in blocks)
    return known * BLOCK


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self.tell(200, {})
        elif self.path == "/v1/models" and self.may_ask():
            told = {"id": NAMES[-1], "max_model_len": arguments.max_model_len}
            self.tell(200, {"object": "list", "data": [told]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":  # asks for no key
            self.tell_tokens(body)
        elif self.path not in {"/v1/completions", "/v1/chat/completions"}:
            self.tell(404, {})
        elif self.may_ask():
            self.answer(body)

    def tell_tokens(self, body: dict[str, Any]) -> None:
        ids = rendered(body)
        if unknown := body.keys() - {"model", "messages", "tools"}:
            self.tell(500, {"error": f"not among the fields that were looked up: {unknown}"})
        elif "refused by the template" in json.dumps(body["messages"]):
            self.tell(400, {"error": {"message": "a conversation that is quoted"}})
        else:
            told = {"count": len(ids), "max_model_len": arguments.max_model_len, "tokens": ids}
            self.tell(200, told)

    def may_ask(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}":
            return True
        self.tell(401, {"error": "Unauthorized"})
        return False

    def answer(self, body: dict[str, Any]) -> None:
        prompt = body["prompt"] if "prompt" in body else rendered(body)
        body["prompt"] = prompt
        if body["model"] not in NAMES or not body["cache_salt"]:
            self.tell(404, {"error": {"message": "no such model"}})
        elif len(prompt) + body["max_tokens"] > arguments.max_model_len or max(prompt) > 10**6:
            self.tell(400, {"error": {"message": f"a prompt that is quoted: {prompt}"}})
        elif body["stream"]:
            self.stream(body, found(body["cache_salt"], prompt))
        else:
            texts, reason, stop = written(body)
            time.sleep(SECONDS * len(texts))
            usage = count(body, len(texts), reason, stop, found(body["cache_salt"], prompt))
            if "messages" in body:
                self.tell(200, whole_chat(body, "".join(texts), reason, usage))
                return
            told = likelihoods(body, usage["completion_tokens"])
            self.tell(200, chunk("".join(texts), reason, stop, usage, told))

    def stream(self, body: dict[str, Any], cached: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        texts, reason, stop = written(body)
        make = chat_chunk if "messages" in body else chunk
        if "messages" in body:
            role = {"role": "assistant", "content": ""}
            self.event(json.dumps(chat_chunk(role, None, None, count(body, 0, None, None, cached))))
        for number, text in enumerate(texts, 1):
            time.sleep(SECONDS)
            usage = count(body, number, None, None, cached)
            self.event(json.dumps(make(text, None, None, usage)))
        usage = count(body, len(texts), reason, stop, cached)
        for delta in deltas(body) if "messages" in body and reason == "stop" else ():
            self.event(json.dumps(chat_chunk(delta, None, None, usage)))
        ended = chat_reason(body, reason) if "messages" in body else reason
        self.event(json.dumps(make("", ended, stop, usage)))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data: str) -> None:
        line = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def tell(self, status: int, content: dict[str, Any]) -> None:
        told = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


def written(body: dict[str, Any]) -> tuple[list[str], str, Any]:
    """The words of an answer, why it ends, and at what: None is the usual end-of-text token."""
    limit = TOKENS if body["max_tokens"] > TOKENS else body["max_tokens"]
    texts = [f"w{number} " for number in range(limit)]
    for stop in body["stop"]:
        if stop in "".join(texts):
            ends = next(n for n in range(limit) if stop in "".join(texts[: n + 1]))
            return [*texts[:ends]], "stop", stop
    return texts, "length" if limit < TOKENS else "stop", None


def rendered(body: dict[str, Any]) -> list[int]:
    """A token for each word of what the chat template makes of a conversation."""
    tools = [] if IS_PLAIN else body.get("tools", [])
    return [len(word) for word in json.dumps([body["messages"], tools]).split()]


def calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of an answer; after what a tool told there are none."""
    choice = body.get("tool_choice", "auto")
    if not body.get("tools") or choice == "none" or body["messages"][-1]["role"] == "tool":
        return []
    assert arguments.enable_auto_tool_choice
    name = body["tools"][0]["function"]["name"]
    function = {"name": name, "arguments": "".join(ARGUMENTS)}
    return [{"id": f"call-{n}", "type": "function", "function": function} for n in range(2)]


def deltas(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls in the parts in which a stream tells them."""
    told: list[dict[str, Any]] = []
    for index, call in enumerate(calls(body)):
        begun = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        parts = [{"index": index, "function": {"arguments": part}} for part in ARGUMENTS]
        told += [{"tool_calls": [part]} for part in (begun, *parts)]
    return told


def chat_reason(body: dict[str, Any], reason: str) -> str:
    """Of a named function it says `stop`."""
    is_named = isinstance(body.get("tool_choice"), dict)
    return "tool_calls" if calls(body) and not is_named and reason == "stop" else reason


def whole_chat(
    body: dict[str, Any], text: str, reason: str, usage: dict[str, Any]
) -> dict[str, Any]:
    """An answer of a chat; where there are calls, that it was cut is not told."""
    message = {"role": "assistant", "content": text, "tool_calls": calls(body)}
    is_named = isinstance(body.get("tool_choice"), dict)
    ended = "tool_calls" if message["tool_calls"] and not is_named else reason
    choice = {"index": 0, "message": message, "finish_reason": ended, "stop_reason": None}
    return {"object": "chat.completion", "usage": usage, "choices": [choice]}


def chat_chunk(
    delta: dict[str, Any] | str, reason: str | None, stop: Any, usage: dict[str, Any]
) -> dict[str, Any]:
    said = {"content": delta} if isinstance(delta, str) else delta
    choice = {"index": 0, "delta": said, "finish_reason": reason, "stop_reason": stop}
    return {"object": "chat.completion.chunk", "usage": usage, "choices": [choice]}


def count(
    body: dict[str, Any], tokens: int, reason: str | None, stop: Any, cached: int
) -> dict[str, Any]:
    """The usage; the token at which an answer ends is counted, as vLLM does."""
    written = tokens + (reason == "stop" and not isinstance(stop, str))
    details = {"cached_tokens": cached}
    return {
        "prompt_tokens": len(body["prompt"]),
        "completion_tokens": written,
        "total_tokens": len(body["prompt"]) + written,
        "prompt_tokens_details": details,
    }


def likelihoods(body: dict[str, Any], tokens: int) -> dict[str, Any] | None:
    """The one that ends an answer is told, too."""
    return None if body.get("logprobs") is None else {"token_logprobs": [-0.5] * tokens}


def chunk(
    text: str, reason: str | None, stop: Any, usage: dict[str, Any], told: Any = None
) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "logprobs": told, "finish_reason": reason}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": NAMES[-1],
        "usage": usage,
        "choices": [choice | {"stop_reason": stop}],
    }


if __name__ == "__main__":
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    worker = threading.Thread(target=Server(arguments.uds, Handler).serve_forever)
    worker.start()
