"""The server over a real loopback port, mostly through the official OpenAI client."""

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medllm.ask import ask_once
from medllm.engines.base import GenerateRequest, Generates, Piece
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError, SetupError
from medllm.places import is_loopback
from medllm.serve import verb
from medllm.serve.answering import Around
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller, KeyRing
from medllm.serve.config import ServeConfig
from medllm.serve.metrics import Metrics
from medllm.serve.server import ask, bound_socket, choose_callers, listen, running_server

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
build_app = pytest.importorskip("medllm.serve.app").build_app

KEY = "a-key-for-tests"
MODEL = "house/tiny-med"
SECRET = "Frau Beispiel, 83, Vorhofflimmern"
CHAT: list[Any] = [{"role": "user", "content": SECRET}]
ANSWER = f"You said: {SECRET}"


class BrokenEngine(FakeEngine):
    """Fails as a bug would, with patient text in its message."""

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece("Y")
        raise RuntimeError(SECRET)


class FullEngine(FakeEngine):
    """Runs out of memory."""

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece("Y")
        raise SetupError("out of memory", "use a smaller model")


def app_of(engine: Generates, key: str | None = KEY, max_tokens: int = 256) -> Any:
    return build_app(engine, model_id=MODEL, callers=Callers(key), max_tokens=max_tokens)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(app_of(FakeEngine(context_length=500))) as url:
        yield url


def connect(url: str, key: str = KEY) -> Any:
    return closing(openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30))


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with connect(url) as client:
        yield client


def post(url: str, body: dict[str, Any], path: str = "chat/completions", key: str = KEY) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": MODEL} | ({"messages": CHAT} if path.startswith("chat") else {}) | body
    return httpx.post(f"{url}/v1/{path}", json=body, headers=headers, timeout=30, trust_env=False)


def get(url: str, **headers: str) -> Any:
    return httpx.get(url, headers=headers, trust_env=False)


def test_chat(client: Any) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=CHAT)
    assert reply.choices[0].message.content == ANSWER
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == len(ANSWER)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + len(ANSWER)
    assert (reply.object, reply.model) == ("chat.completion", MODEL)


def test_chat_streams(client: Any) -> None:
    options = {"include_usage": True}
    with client.chat.completions.create(
        model=MODEL, messages=CHAT, stream=True, stream_options=options
    ) as stream:
        *chunks, last = stream
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert len(chunks) > 10
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert last.choices == [] and last.usage.completion_tokens == len(ANSWER)
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_completions(client: Any) -> None:
    reply = client.completions.create(model=MODEL, prompt="ab", max_tokens=5)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("You s", "length")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 5)
    by_default = client.completions.create(model=MODEL, prompt=["a long prompt to continue"])
    assert by_default.usage.completion_tokens == 16


def test_completions_stream(client: Any) -> None:
    with client.completions.create(model=MODEL, prompt="ab", stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "You said: ab"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_stream_is_server_sent_events_to_the_end(url: str) -> None:
    response = post(url, {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.split("\n\n")
    assert all(line.startswith("data: ") for line in lines[:-1])
    assert lines[-2:] == ["data: [DONE]", ""]


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_limits_are_honoured(client: Any) -> None:
    chat = client.chat.completions.create
    assert chat(model=MODEL, messages=CHAT, stop="Frau").choices[0].message.content == "You said: "
    assert chat(model=MODEL, messages=CHAT, max_completion_tokens=3).usage.completion_tokens == 3
    assert chat(model=MODEL, messages=CHAT, max_tokens=4).choices[0].finish_reason == "length"


def test_text_parts_are_joined(client: Any) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
    ]
    reply = client.chat.completions.create(model=MODEL, messages=messages)
    assert reply.choices[0].message.content == "You said: one two"


def test_a_reply_can_be_sent_back(client: Any) -> None:
    first = client.chat.completions.create(model=MODEL, messages=CHAT).choices[0].message
    follow_up = [*CHAT, first.model_dump(), {"role": "user", "content": "And?"}]
    reply = client.chat.completions.create(model=MODEL, messages=follow_up)
    assert reply.choices[0].message.content == "You said: And?"


def test_wrong_key_and_wrong_model(url: str, client: Any) -> None:
    with connect(url, "wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model=MODEL, messages=CHAT)
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=CHAT)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "path", ["", "/docs", "/openapi.json", "/v1/models", "/v1/models/", "/nothing", "/health/x"]
)
def test_everything_but_health_is_denied(url: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer ä".encode()}, {"Authorization": f"Basic {KEY}"}):
        response = get(url + path, **headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
    assert get(url + path, Authorization=f"Bearer {KEY}").status_code in (200, 404)


def test_unknown_routes_answer_in_the_error_form(url: str) -> None:
    for path in ("/docs", "/redoc", "/nothing"):
        response = get(url + path, Authorization=f"Bearer {KEY}")
        assert (response.status_code, response.json()["error"]["param"]) == (404, None)


def test_health_is_open_and_says_little(url: str) -> None:
    told = get(f"{url}/health").json()
    assert told == get(f"{url}/health/").json()
    assert sorted(told) == ["gpu_available", "model_loaded", "status"]
    assert (told["status"], told["model_loaded"]) == ("ok", True)


def test_too_long_a_prompt(client: Any) -> None:
    long: list[Any] = [{"role": "user", "content": "x" * 500}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 17}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages.0.name"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": ""}, "stop.0"),
        ({"model": 3}, "model"),
    ],
)
def test_what_is_not_honoured_is_refused(url: str, body: dict[str, Any], param: str) -> None:
    response = post(url, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert sorted(error) == ["code", "message", "param", "type"]


def test_a_misspelt_field_is_named_as_it_should_be(url: str) -> None:
    told = post(url, {"patientcontext": {"age": 3}, "messages": [{"role": "user", "content": "a"}]})
    assert told.status_code == 400
    assert "did you mean 'patient_context'? if not, leave it out" in told.json()["error"]["message"]


@pytest.mark.parametrize(("prompts", "n", "param"), [(129, 1, "prompt"), (65, 2, "n")])
def test_what_asks_too_many_answers_is_named(url: str, prompts: int, n: int, param: str) -> None:
    response = post(url, {"prompt": ["a"] * prompts, "n": n}, path="completions")
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("prompt", [["a", 1], [None], 5, [], None])
def test_prompts_must_be_texts(url: str, prompt: Any) -> None:
    response = post(url, {"prompt": prompt}, path="completions")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")


def test_neutral_and_harmless_fields_are_accepted(url: str) -> None:
    body = {"n": 1, "tools": [], "logprobs": False, "presence_penalty": 0, "user": "u"}
    more = {"store": False, "metadata": {"a": "b"}, "response_format": {"type": "text"}}
    assert post(url, body | more | {"seed": 7, "temperature": 0.5, "top_p": 1}).status_code == 200
    optional = "stop max_tokens temperature top_p seed stream stream_options tools n logprobs user"
    assert post(url, dict.fromkeys(optional.split())).status_code == 200


def test_what_is_not_json_is_refused(url: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for content in (b"{", b"", b"[" * 100_000):
        target = f"{url}/v1/chat/completions"
        response = httpx.post(target, content=content, headers=headers, trust_env=False)
        assert (response.status_code, "message" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_compressed_body_is_refused_in_words(url: str, encoding: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Encoding": encoding}
    told = httpx.post(f"{url}/v1/completions", content=b"\x1f\x8b", headers=headers)
    assert (told.status_code, told.headers["accept-encoding"]) == (415, "identity")
    assert (
        told.json()["error"]["message"] == f"the body is compressed ({encoding}); send it as it is"
    )


def test_a_prompt_counts_once_for_all_its_answers() -> None:
    metrics = Metrics()
    around = Around(metrics=metrics)
    app = build_app(FakeEngine(), model_id="m", callers=Callers(KEY), max_tokens=99, around=around)
    with running_server(app) as url:
        body = {"model": "m", "prompt": ["one two", "three"], "n": 3}
        told = post(url, body, "completions").json()
    usage = told["usage"]
    count = metrics.registry.get_sample_value
    assert count("medllm_tokens_total", {"kind": "prompt"}) == usage["prompt_tokens"] == 14
    assert count("medllm_tokens_total", {"kind": "answer"}) == usage["completion_tokens"]
    used = around.limits.check(Caller(name="key", tokens_per_day=10**6)).tokens
    assert used == usage["total_tokens"]


def test_a_model_without_template_completes_only() -> None:
    with running_server(app_of(FakeEngine(has_chat_template=False))) as url:
        response = post(url, {})
        assert response.json()["error"]["code"] == "no_chat_template"
        assert ask(url, KEY, "Hello", max_tokens=100) == "You said: Hello"


def test_without_a_key_only_loopback_names_are_answered() -> None:
    with running_server(app_of(FakeEngine(), key=None)) as url:
        assert ask(url, None, SECRET, max_tokens=100) == ANSWER
        assert get(f"{url}/v1/models", Host="evil.example:80").status_code == 403
        assert get(f"{url}/v1/models", Host="[").status_code in (400, 403)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_turn(stream: bool) -> None:
    with running_server(app_of(FakeEngine(seconds_per_piece=0.05), max_tokens=1000)) as url:
        with pytest.raises(httpx.ReadTimeout):
            headers = {"Authorization": f"Bearer {KEY}"}
            messages = [{"role": "user", "content": "x" * 600}]  # half a minute
            body = {"model": MODEL, "messages": messages, "stream": stream}
            target = f"{url}/v1/chat/completions"
            with httpx.stream("POST", target, json=body, headers=headers, timeout=0.5) as response:
                for _ in response.iter_raw():
                    raise httpx.ReadTimeout("seen enough")
        started = time.monotonic()
        assert ask(url, KEY, "Hi", max_tokens=100) == "You said: Hi"
        assert time.monotonic() - started < 5


def test_streams_wait_for_each_other_and_health_does_not() -> None:
    with running_server(app_of(FakeEngine(seconds_per_piece=0.04))) as url:
        with ThreadPoolExecutor(2) as pool:
            started = time.monotonic()
            answers = [pool.submit(post, url, {"stream": True}) for _ in range(2)]
            time.sleep(0.2)
            assert get(f"{url}/health").status_code == 200
            assert not any(answer.done() for answer in answers)
            assert all("[DONE]" in answer.result().text for answer in answers)
        assert time.monotonic() - started > 2 * 0.04 * len(ANSWER)


def test_no_text_reaches_a_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(app_of(BrokenEngine())) as url:
        assert post(url, {}).json()["error"]["message"] == "internal error"
        assert post(url, {"tools": [SECRET]}).status_code == 400
        *_, last, end = post(url, {"stream": True}).text.split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["message"] == "internal error"
        assert end == ""
    out, err = capfd.readouterr()
    assert err.count("RuntimeError") == err.count("in generate") == 2
    assert SECRET not in out + err + caplog.text


class SmallEngine(FakeEngine):
    """One whose memory ends in the middle of the first answer."""

    has_failed = False

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece("a")
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")


def test_too_little_memory_for_an_answer_is_one_line_and_the_next_is_answered(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running_server(app_of(SmallEngine())) as url:
        refused = post(url, {})
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "server_error")
        assert refused.json()["error"]["message"].startswith("too little memory for this request")
        assert post(url, {}).status_code == 200
    err = capfd.readouterr().err
    assert err.count("an answer failed: too little memory") == 1
    assert "Traceback" not in err


def test_an_engine_that_fails_says_so_in_the_error_form() -> None:
    with running_server(app_of(FullEngine())) as url, connect(url) as client:
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            client.chat.completions.create(model=MODEL, messages=CHAT)
        with pytest.raises(openai.APIError, match="out of memory"):
            list(client.chat.completions.create(model=MODEL, messages=CHAT, stream=True))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with bound_socket("127.0.0.1", 0) as sock:  # asyncio turns Nagle off where TCP is named
        assert sock.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=str(port)) as caught, bound_socket("127.0.0.1", port):
            pass
    assert "--port" in caught.value.fix
    with pytest.raises(SetupError), bound_socket("192.0.2.1", 0):  # TEST-NET-1: nobody's
        pass


def test_a_server_that_is_not_there_is_told_in_two_lines() -> None:
    with bound_socket("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(SetupError, match="did not answer"):
        ask(f"http://127.0.0.1:{port}", KEY, SECRET, max_tokens=9)


@pytest.mark.parametrize("host", ["..", "a" * 300, "a\0b", "::1%nothing", "127.0.0.1:80", "\ud83d"])
def test_what_is_no_host_is_refused_in_two_lines(host: str) -> None:
    with pytest.raises(SetupError) as caught, bound_socket(host, 0):
        pass
    assert "--host" in caught.value.fix and len(caught.value.message.splitlines()) == 1


def test_a_port_that_another_server_took_while_the_model_was_loaded() -> None:
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bound_socket("127.0.0.1", port) as second:  # neither listens, so both may have it
            listen(first)
            with pytest.raises(SetupError, match=f"127.0.0.1:{port}: Address already in use"):
                listen(second)


def test_who_may_ask(tmp_path: Path) -> None:
    none = KeyRing(tmp_path / "keys.json")
    environ = {"MEDLLM_API_KEY": "from-env"}
    assert choose_callers(ServeConfig(api_key="mine"), environ, none).api_key == "mine"
    assert choose_callers(ServeConfig(), environ, none).api_key == "from-env"
    assert choose_callers(ServeConfig(no_auth=True), {}, none).are_unnamed
    open_to_all = ServeConfig(host="0.0.0.0")
    fresh = {choose_callers(open_to_all, {"MEDLLM_API_KEY": ""}, none).api_key for _ in range(2)}
    assert len(fresh) == 2 and all(key and len(key) > 40 for key in fresh)
    with pytest.raises(ConfigError, match="without a key"):
        choose_callers(ServeConfig(no_auth=True, host="0.0.0.0"), {}, none)
    with pytest.raises(ConfigError, match="header"):
        choose_callers(ServeConfig(), {"MEDLLM_API_KEY": "schlüssel"}, none)
    with pytest.raises(ValueError, match="exclude each other"):
        ServeConfig(api_key="a", no_auth=True)
    assert "mine" not in repr(ServeConfig(api_key="mine"))


def test_named_keys_are_asked_for_and_a_revoked_one_is_refused_at_once(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    first, second = (ring.add(Caller(name=name)) for name in ("ward-3", "ward-4"))
    callers = choose_callers(ServeConfig(no_auth=True), {}, ring)
    assert callers.api_key is None and not callers.are_unnamed
    app = build_app(FakeEngine(), model_id=MODEL, callers=callers, max_tokens=9)
    with running_server(app) as url:

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return int(httpx.get(f"{url}/v1/models", headers=headers).status_code)

        assert [status(key) for key in (first, second, "medllm-other")] == [200, 200, 401]
        ring.revoke("ward-3")
        assert [status(key) for key in (first, second)] == [401, 200]
        ring.path.write_text("{")
        assert status(second) == 500
        headers = {"Authorization": f"Bearer {second}"}
        told = httpx.get(f"{url}/v1/models", headers=headers).text
        assert "keys cannot be read" in told and str(tmp_path) not in told


def test_a_key_has_limits_of_its_own(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    limited = Caller(name="ward-3", requests_per_minute=2, tokens_per_day=10_000)
    keys = [ring.add(limited), ring.add(Caller(name="ward-4"))]
    app = build_app(FakeEngine(), model_id=MODEL, callers=Callers(None, ring), max_tokens=9)
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 2}
    with running_server(app) as url:

        def ask(key: str, **more: Any) -> Any:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.post(f"{url}/v1/completions", headers=headers, json=body | more)

        answers = [ask(keys[0], stream=stream) for stream in (False, True, False, True)]
        assert [each.status_code for each in answers] == [200, 200, 429, 429]
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert 0 < int(answers[2].headers["retry-after"]) <= 60
        assert ask(keys[1]).status_code == 200
        for more, param in (({"prompt": ["a", "b", "c"]}, "prompt"), ({"n": 3}, "n")):
            told = ask(keys[0], **more)
            assert (told.status_code, told.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "origin", ["*", "null", "localhost:3000", "http://a/", "http://*.a.org", ""]
)
def test_pages_are_named_one_by_one(origin: str) -> None:
    assert ServeConfig(allow_origins=("http://localhost:3000", "https://chat.example.org"))
    with pytest.raises(ValueError, match="by scheme, host and port"):
        ServeConfig(allow_origins=(origin,))
    with pytest.raises(ValueError, match="printable ASCII"):
        ServeConfig(api_key="a b")


def test_is_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example"]))


def test_under_run_the_base_is_asked_too(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = ServeConfig(model=str(tiny_model), question=SECRET, max_tokens=4, ask_base=True)

    ask_once(config, tmp_path / "served", overwrite=False, base=str(tiny_model))

    kept = json.loads((tmp_path / "served/answer.json").read_text(encoding="utf-8"))
    assert kept["question"] == SECRET
    assert kept["answer_of_base"] == kept["answer"] != ""  # of the same model
    shown = capfd.readouterr().out
    assert "the base answers: " in shown  # its terms are not known, so only how long it is
    assert shown.count("not shown: its training data are not open") == 2


def test_serve_once() -> None:
    config = ServeConfig(model=MODEL, question="What now?")
    assert verb.serve_once(config, FakeEngine()) == "You said: What now?"
    with pytest.raises(ConfigError, match="no model"):
        verb.serve(ServeConfig())


SERVE = """
import sys
from medllm.engines.fake import FakeEngine
from medllm.serve import verb
from medllm.serve.config import ServeConfig
try:
    verb.serve(ServeConfig(model="tiny", port=0), FakeEngine())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_serve_until_ctrl_c() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        lines = [process.stdout.readline().split(maxsplit=1)[1] for _ in range(4)]
        key = lines[3].partition("=")[2].split()[0]
        assert key not in lines[2] and "$MEDLLM_API_KEY" in lines[2]
        assert ask(lines[1].strip().removesuffix("/v1"), key, "Hi", 100) == "You said: Hi"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "Ctrl-C stops the server.\n"
