"""A model that another server has, behind the same door."""

import asyncio
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from echoing import Server
from echoing import served as echoing_served
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from outgoing import outgoing, places
from served import interrupted_once_served
from typed import Ended, Typed

from medllm.data.example import Message, read_jsonl
from medllm.engines.base import EngineDown, GenerateRequest, Piece, Sampling
from medllm.engines.fake import FakeEngine
from medllm.engines.servers.address import AddressEngine
from medllm.engines.servers.openai import OpenAIEngine
from medllm.errors import ConfigError, DataError, SetupError
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller
from medllm.serve.config import ServeConfig
from medllm.serve.metrics import Metrics
from medllm.serve.server import running_server
from medllm.serve.verb import serve, serve_once

QUESTION = {"role": "user", "content": "Zebulon Quackenbush has a fever"}


class Answers(FakeEngine):
    """Another server's model, which remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[GenerateRequest] = []

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        self.asked.append(request)
        yield Piece("It is ")
        yield Piece("a fever.")
        yield Piece("", 0, "stop")


@contextmanager
def other(engine: FakeEngine, key: str | None = None) -> Iterator[str]:
    app = build_app(engine, model_id="theirs", callers=Callers(key), max_tokens=200)
    with running_server(app) as url:
        yield url


@contextmanager
def door(url: str, **named: Any) -> Iterator[httpx.Client]:
    engine = OpenAIEngine(url, **named)
    app = build_app(engine, model_id=engine.model, callers=Callers(), max_tokens=64)
    with running_server(app) as ours, httpx.Client(base_url=f"{ours}/v1/", timeout=20) as client:
        yield client


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "theirs", "messages": [QUESTION], "max_tokens": 9, **more}


def test_an_answer_goes_through_whole_and_streamed() -> None:
    engine = Answers()
    with other(engine) as url, door(url + "/v1/") as client:
        whole = client.post("chat/completions", json=chat(stop=["x"], seed=7)).json()
        events = client.post("chat/completions", json=chat(stream=True)).text
        plain = client.post("completions", json={"model": "theirs", "prompt": "It"}).json()

    assert whole["choices"][0]["message"]["content"] == "It is a fever."
    assert whole["choices"][0]["finish_reason"] == "stop"
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == (
        "It is a fever."
    )
    assert events.endswith("data: [DONE]\n\n")
    assert plain["choices"][0]["text"] == "It is a fever."
    first = engine.asked[0].sampling
    assert (first.max_tokens, first.temperature, first.seed, first.stop) == (9, 0.0, 7, ("x",))


def test_a_key_is_sent_and_a_wrong_one_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with other(Answers(), "their-key") as url:
        with pytest.raises(SetupError, match="does not list its models"):
            OpenAIEngine(url)
        monkeypatch.setenv("MEDLLM_UPSTREAM_KEY", "their-key")
        with door(url) as client:
            assert client.post("chat/completions", json=chat()).status_code == 200


def stand_in(answer: Response, models: list[dict[str, Any]] | None = None) -> FastAPI:
    app = FastAPI()
    app.state.end_answers = lambda: None
    app.state.count_error = lambda status: None

    @app.get("/v1/models")
    def list_models() -> Any:
        return {"data": models if models is not None else [{"id": "theirs"}]}

    @app.post("/v1/chat/completions")
    def complete(request: Request) -> Response:
        return answer

    return app


CUT = 'data: {"choices": [{"delta": {"content": "It is"}, "finish_reason": null}]}\n\n'


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (JSONResponse({"error": {"message": QUESTION["content"]}}, 400), 400),
        (JSONResponse({"error": "no memory"}, 500), 503),
        (JSONResponse({"detail": "busy"}, 429), 503),
        (JSONResponse({"choices": []}), 503),
        (Response("<html>", 200), 503),
        (Response("", 404), 503),
    ],
)
def test_what_the_other_server_does_wrong_is_told_without_its_words(
    answer: Response, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_server(stand_in(answer)) as url, door(url) as client:
        told = client.post("chat/completions", json=chat())

    assert told.status_code == status
    assert "Quackenbush" not in told.text + "".join(capfd.readouterr())
    if status == 503:
        assert told.headers["retry-after"]


CALL = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "order", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_tools_and_images_go_through_as_they_came() -> None:
    asked: list[dict[str, Any]] = []
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = {"choices": [{"message": message, "finish_reason": "tool_calls"}],
              "usage": {"completion_tokens": 9}}  # fmt: skip
    app = stand_in(Response(""))

    @app.middleware("http")
    async def keep(request: Request, call_next: Any) -> Response:
        if request.method == "GET":
            return await call_next(request)  # type: ignore[no-any-return]
        asked.append(await request.json())
        return JSONResponse(answer)

    turns = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}]
    with running_server(app) as url, door(url) as client:
        body = chat(messages=turns, tools=[TOOL], tool_choice="auto")
        told = client.post("chat/completions", json=body).json()
        again = [*turns, message, {"role": "tool", "tool_call_id": "c1", "content": "Done."}]
        client.post("chat/completions", json=chat(messages=again))

    assert told["choices"][0]["message"]["tool_calls"] == [CALL]
    first, second = asked
    assert (first["messages"], first["tools"], first["tool_choice"]) == (turns, [TOOL], "auto")
    assert second["messages"] == again and "tools" not in second


def event(text: str, reason: str | None = None, **more: Any) -> str:
    choices = [{"delta": {"content": text}, "finish_reason": reason}] if text or reason else []
    return f"data: {json.dumps({'choices': choices, **more})}\n\n"


USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}
STREAMED = event("It is ") + event("a fever.", "stop")
WHOLE = {"choices": [{"message": {"content": "It is a fever."}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tells", [False, True])
def test_the_tokens_are_those_that_the_other_server_counted(
    stream: bool, tells: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    more = {"usage": USAGE} if tells else {}
    last = event("", **more) if tells else ""
    answer = Response(f"{STREAMED}{last}data: [DONE]\n\n") if stream else JSONResponse(WHOLE | more)
    metrics, caller = Metrics(), Caller(name="anyone", tokens_per_day=50)
    around = Around(metrics=metrics)
    with running_server(stand_in(answer)) as url:
        engine = OpenAIEngine(url, n_ctx=512)
        app = build_app(engine, model_id="theirs", callers=Callers(), max_tokens=64, around=around)
        body = chat(
            stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
        )
        with running_server(app) as ours:
            told = httpx.post(f"{ours}/v1/chat/completions", json=body, trust_env=False).text

    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    usage = (events or [json.loads(told)])[-1]["usage"]
    count = metrics.registry.get_sample_value
    read, written = (count("medllm_tokens_total", {"kind": kind}) for kind in ("prompt", "answer"))
    if tells:
        assert (usage, read, written) == (USAGE, 31, 12)
        assert around.limits.check(caller).tokens == 43
    else:
        assert (usage, read, written) == (None, 0, int(stream) * 2)
    assert capfd.readouterr().err.count("tells no tokens") == int(not tells)


def test_a_stream_that_is_cut_off_is_no_whole_answer() -> None:
    with running_server(stand_in(Response(CUT, 200))) as url, door(url) as client:
        events = client.post("chat/completions", json=chat(stream=True)).text

    assert "It is" in events and '"error"' in events and "[DONE]" not in events


TURNS = (Message("user", "?"),)
DONE = "data: [DONE]\n\n"
COUNTS = event("", usage=USAGE)
ENDS = {
    "a reason and no [DONE]": (event("It ") + event("is.", "stop"), "stop"),
    "[DONE] and no reason": (event("It ") + event("is.") + DONE, "stop"),
    "no reason, and as many tokens as there may be": (event("It is.") + COUNTS + DONE, "length"),
    "two reasons": (event("It ", "stop") + event("is.", "stop") + DONE, "stop"),
    "words after the reason": (event("It ", "stop") + event("is.") + DONE, "stop"),
    "empty reasons": (event("It ", "") + event("is.", "") + event("", "length") + DONE, "length"),
    "no space": ((event("It is.", "stop") + DONE).replace("data: ", "data:"), "stop"),
    "no delta": ('data: {"choices": [{"delta": null}]}\n\n' + event("It is.") + DONE, "stop"),
    "neither": (event("It ") + event("is."), None),
    "an error after words": (event("It is.") + 'data: {"error": "no memory"}\n\n' + DONE, None),
    "an error in its own form": (event("It is.") + 'data: {"message": "no"}\n\n' + DONE, None),
    "words that are no text": (event("It is.").replace('"It is."', "[1]") + DONE, None),
}


@pytest.mark.parametrize("way", ["stream", "generate"])
@pytest.mark.parametrize("ends", ENDS)
def test_a_stream_is_whole_where_a_reason_or_done_says_so(ends: str, way: str) -> None:
    frames, reason = ENDS[ends]
    asked = GenerateRequest(prompt="?", messages=TURNS, sampling=Sampling(max_tokens=12))

    async def read(engine: OpenAIEngine) -> list[Piece]:
        return [piece async for piece in engine.stream(asked)]

    with running_server(stand_in(Response(frames))) as url, closing(AddressEngine(url)) as engine:
        if reason is None:
            with pytest.raises(EngineDown):
                asyncio.run(read(engine)) if way == "stream" else [*engine.generate(asked)]
            return
        pieces = asyncio.run(read(engine)) if way == "stream" else [*engine.generate(asked)]

    assert "".join(piece.text for piece in pieces) == "It is."
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [reason]
    assert pieces[-1].finish_reason


def test_what_a_filter_cut_is_no_answer_of_a_verb() -> None:
    asked = GenerateRequest(messages=TURNS)
    cut = stand_in(Response(event("It ") + event("", "content_filter") + DONE))
    with running_server(cut) as url, closing(AddressEngine(url, n_ctx=64)) as engine:
        pieces = engine.generate(asked)
        assert next(pieces).text == "It "
        with pytest.raises(DataError, match="content filter"):
            list(pieces)
    choice = {"message": {"content": "It"}, "finish_reason": "content_filter"}
    whole = JSONResponse({"choices": [choice]})
    with running_server(stand_in(whole)) as url, closing(AddressEngine(url, n_ctx=64)) as engine:
        ((_, answer),) = engine.generate_batch([asked])
        assert isinstance(answer, DataError)


@pytest.mark.parametrize(("status", "calls"), [(400, 2), (422, 2), (500, 1)])
def test_a_server_that_refuses_to_count_a_stream_is_asked_without(status: int, calls: int) -> None:
    app, bodies = stand_in(Response("")), list[dict[str, Any]]()

    @app.middleware("http")
    async def refuse(request: Request, call_next: Any) -> Response:
        if request.method == "GET":
            return await call_next(request)  # type: ignore[no-any-return]
        bodies.append(await request.json())
        return Response(STREAMED + DONE, status if "stream_options" in bodies[-1] else 200)

    async def read(engine: OpenAIEngine) -> str:
        return "".join([piece.text async for piece in engine.stream(GenerateRequest("?"))])

    with running_server(app) as url, closing(AddressEngine(url, n_ctx=512)) as engine:
        for read_all in (
            lambda: asyncio.run(read(engine)),
            lambda: "".join(piece.text for piece in engine.generate(GenerateRequest("?"))),
        ):
            bodies.clear()
            with nullcontext() if calls == 2 else pytest.raises(EngineDown):
                assert read_all() == "It is a fever."
            assert len(bodies) == calls


@pytest.mark.parametrize("end", ["", "/", "/v1/", "/v1/chat/completions", "/v1/models/"])
def test_an_address_may_end_as_in_an_example_of_its_use(end: str) -> None:
    app, asked = stand_in(JSONResponse({"detail": "?"}, 401)), GenerateRequest(messages=TURNS)
    with running_server(app) as url, closing(AddressEngine(url + end, n_ctx=64)) as engine:
        assert engine.url == f"{url}/v1"
        for answers in (engine.generate(asked), engine.generate_batch([asked])):
            with pytest.raises(EngineDown, match="its status is 401"):
                list(answers)


@pytest.mark.parametrize(
    ("models", "context"),
    [
        ([{"id": "a", "max_model_len": "many"}], 8192),
        ([{"id": "a", "max_model_len": -5, "meta": None}], 8192),
        ([{"id": "a", "max_model_len": 64}, {"id": "a", "max_model_len": 64}], 64),
        ([{}], None),
        (["a"], None),
        ([{"id": "a", "meta": "none"}], None),
    ],
)
def test_a_list_of_models_in_another_form_is_told(models: Any, context: int | None) -> None:
    with running_server(stand_in(Response(""), models)) as url:
        if context:
            assert OpenAIEngine(url).context_length == context
        else:
            with pytest.raises(SetupError, match="in OpenAI's form"):
                OpenAIEngine(url)


def test_the_model_is_named_where_there_are_several(capfd: pytest.CaptureFixture[str]) -> None:
    models = [{"id": "a", "max_model_len": 512}, {"id": "b", "meta": {"n_ctx_train": 1024}}]
    with running_server(stand_in(Response(""), models)) as url:
        assert OpenAIEngine(url, "a").context_length == 512
        assert OpenAIEngine(url, "b").context_length == 1024
        assert OpenAIEngine(url, "b", n_ctx=64).context_length == 64
        with pytest.raises(ConfigError, match="has 2 models") as raised:
            OpenAIEngine(url)
        assert "a, b" in raised.value.fix
        with pytest.raises(ConfigError, match="has no model 'c'"):
            OpenAIEngine(url, "c")
    assert "tokens are assumed" not in capfd.readouterr().err


def test_a_server_that_is_not_there_is_told_in_two_lines() -> None:
    with pytest.raises(SetupError, match="does not list its models"):
        OpenAIEngine("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://192.0.2.7:11434", "192.0.2.7 is not this machine"),
        ("https://api.example.org/v1", "api.example.org is not this machine"),
        ("http://127.0.0.1.example.org", "is not this machine"),
        ("ollama", "no address of a server"),
        ("file:///etc/passwd", "no address of a server"),
        ("http://2130706433:11434", "every program reads alike"),
        ("http://127.1", "every program reads alike"),
        ("http://0x7f.0.0.1/v1", "every program reads alike"),
        ("http://127.000.0.1", "every program reads alike"),
        ("http://me:secret@localhost:80", "an address holds no key"),
    ],
)
def test_what_is_asked_stays_on_this_machine_unless_it_is_allowed(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        serve(ServeConfig(upstream=url, no_auth=True))
    assert "secret" not in raised.value.message + raised.value.fix


@pytest.mark.parametrize("host", ["127.0.0.1", "gpu.hospital.example"])
def test_the_verb_asks_nobody_else_and_the_log_tells_where_the_model_is(
    host: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(name: Any, *more: Any, **named: Any) -> Any:
        return resolved("127.0.0.1" if name in {host, host.encode()} else name, *more, **named)

    resolved = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("MEDLLM_UPSTREAM_KEY", "theirs")
    askers: list[int] = []
    with other(Answers(), "theirs") as theirs, outgoing() as made:
        url, is_remote = theirs.replace("127.0.0.1", host), host != "127.0.0.1"

        def ask(ours: str, printed: str) -> None:
            askers.append(threading.get_ident())
            assert "serving   theirs (openai, 2,048 tokens of context, 16 at once)" in printed
            assert (f"all that is asked goes to {host}" in printed) is is_remote
            for more in ({}, {"stream": True}, {"tools": ["no such"]}):
                status = httpx.post(f"{ours}/chat/completions", json=chat(**more)).status_code
                assert status == (400 if "tools" in more else 200)

        config = ServeConfig(
            upstream=url, allow_remote=is_remote, no_auth=True, port=0, audit=tmp_path / "log"
        )
        with interrupted_once_served(capfd, ask), pytest.raises(KeyboardInterrupt):
            serve(config)
        assert {port for _, port in places(made, *askers)} == {urlsplit(url).port}
        assert {where for where, _ in places(made, *askers)} == {"127.0.0.1"}
        assert serve_once(config) == "It is a fever."

    (log,) = (tmp_path / "log").glob("*.jsonl")
    told = json.loads(log.read_text().splitlines()[0])["model"]
    assert (told["upstream"], told["allow_remote"]) == (url, is_remote)
    out, err = capfd.readouterr()
    assert "Quackenbush" not in out + err + log.read_text()


def test_a_model_at_an_address_is_evaluated_like_any_other(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    row = {"id": "w/1", "dataset": "w", "group": "1", "completion": "Yes.",
           "prompt": [{"role": "user", "content": "So?"}]}  # fmt: skip
    (tmp_path / "ward/test.jsonl").write_text(json.dumps(row) + "\n")

    def evaluated(model: str, task: str, output: str, *more: str | Path) -> Ended:
        place = tmp_path / output
        return typed("evaluate", "--model", model, "--tasks", task, "--output", place, *more)

    with echoing_served(Server()) as url, echoing_served(Server(echo=False)) as other:
        name = f"{url}#org/theirs"
        scored = evaluated(name, "laterality", "scored", "--limit", "3")
        answers = evaluated(name, "answers", "answers", "--data", tmp_path / "ward")
        refused = evaluated(f"{other}#org/theirs", "laterality", "refused", "--limit", "3")
    remote = evaluated("http://192.0.2.7#x", "answers", "remote", "--data", tmp_path / "ward")
    gone = evaluated("http://127.0.0.1:9#x", "laterality", "gone", "--limit", "3")

    assert scored.returncode == 0
    manifest = json.loads((tmp_path / "scored/medllm.json").read_text())
    (score,) = manifest["results"]["scores"]
    assert (score["model"], score["items"], score["likelihood"]) == ("theirs", 3, "echo")
    assert (score["n_ctx"], score["computed_in"]) == (900, "not known")
    assert (score["address"], score["left_machine"]) == (f"{url}/v1", False)
    assert manifest["parents"][0]["kind"] == "address"
    assert manifest["config"]["allow_remote"] is False
    assert (tmp_path / "scored/theirs/laterality.jsonl").is_file()
    assert answers.returncode == 2 and "the likelihood of every token" in answers.stderr
    assert refused.returncode == 2 and "does not give the prompt back (echo)" in refused.stderr
    assert remote.returncode == 2 and "192.0.2.7 is not this machine" in remote.stderr
    assert gone.returncode == 5 and "Connection refused" in gone.stderr


def test_a_model_at_an_address_answers_a_file_of_prompts(typed: Typed, tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    rows = [{"id": "a", "question": "So?"}, {"id": "b", "question": "x" * 1000}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = Server()

    def generated(model: str, *more: str | Path) -> Ended:
        asked = ("generate", "--model", model, "--output", tmp_path / "out", "--input", source)
        return typed(*asked, *more)

    with echoing_served(server) as url:
        name = f"{url}#org/theirs"
        bad = [
            generated(name, "--top-k", "4"),
            typed("generate", "--model", name, "--prompt", "So?", "--abstain-below", "0.5"),
            generated("http://192.0.2.7#x"), generated(name, "--set", "generate.quantization=nf4"),
            generated("http://127.0.0.1:9#x"), generated(f"{url}#other"),
        ]  # fmt: skip
        dry = generated(name, "--dry-run")
        assert server.asked == []
        made = generated(name, "--max-tokens", "9")

    assert [each.returncode for each in bad] == [2, 2, 2, 2, 5, 2]
    assert "not used" not in bad[1].stderr
    reasons = ["may leave it unheeded", "tells no likelihood of what it writes",
               "192.0.2.7 is not this machine", "is not quantized to NF4 here",
               "Connection refused", "has no model 'other'"]  # fmt: skip
    for each, reason in zip(bad, reasons, strict=True):
        assert reason in each.stderr
    assert (dry.returncode, made.returncode) == (0, 0)
    first, second = read_jsonl(tmp_path / "out/generations.jsonl")
    assert (first["answer"], first["tokens"], first["confidence"]) == ("You said: So?", 7, None)
    assert "the server behind refuses the request" in second["error"]
    results = (manifest := json.loads((tmp_path / "out/medllm.json").read_text()))["results"]
    assert (results["address"], results["served_as"]) == (f"{url}/v1", "org/theirs")
    assert (results["left_machine"], results["computed_in"]) == (False, "not known")
    assert (results["engine"], results["batch_size"], results["n_ctx"]) == ("openai", 16, 900)
    assert manifest["parents"][0]["kind"] == "address"
    assert manifest["data_terms"][0]["access"] == "private"
    assert server.asked[0]["max_tokens"] == 9


def test_a_server_that_refused_all_is_asked_again(typed: Typed, tmp_path: Path) -> None:
    (source := tmp_path / "prompts.jsonl").write_text('{"id": "a", "question": "So?"}\n')
    app, answers = stand_in(Response("")), [Response("", 400), JSONResponse(WHOLE)]

    @app.middleware("http")
    async def tell(request: Request, call_next: Any) -> Response:
        return await call_next(request) if request.method == "GET" else answers.pop(0)

    with running_server(app) as url:
        asked = ("generate", "--model", url, "--input", source, "--output", tmp_path / "out")
        assert [typed(*asked).returncode for _ in range(2)] == [3, 0]
    (row,) = read_jsonl(tmp_path / "out/generations.jsonl")
    assert row["answer"] == "It is a fever."


def test_stages_at_addresses_read_long_texts_in_pieces_and_are_tried_first(
    typed: Typed, tmp_path: Path
) -> None:
    note = "No fever. " * 250
    (tmp_path / "notes.jsonl").write_text(json.dumps({"id": "a", "text": note}) + "\n")
    server = Server()
    server.most = 9000

    def generated(second: str) -> Ended:
        stages = [
            {"name": "first", "model": f"{url}#org/theirs", "instruction": "Sum up."},
            {"name": "last", "model": second, "instruction": "Halve.", "n_ctx": 8000},
        ]
        (tmp_path / "two.json").write_text(json.dumps({"generate": {"stages": stages}}))
        asked = ("generate", "--config", tmp_path / "two.json", "--output", tmp_path / "out")
        return typed(*asked, "--input", tmp_path / "notes.jsonl")  # fmt: skip

    with echoing_served(server) as url:
        gone = generated("http://127.0.0.1:9#x")
        assert server.asked == []
        made = generated(f"{url}#org/theirs")

    assert (gone.returncode, made.returncode) == (5, 0)
    pieces = [each["messages"][-1]["content"] for each in server.asked]
    assert len(pieces) == 3 and all(len(each) <= 2 * (900 - 256) for each in pieces[:2])
    assert sum(piece.count("No fever.") for piece in pieces[:2]) == 250
    (row,) = read_jsonl(tmp_path / "out/generations.jsonl")
    assert row["answer"].startswith("You said: Halve.\n\nYou said: Sum up.\n\nNo fever.")
    assert row["retention"] == 1.0 and row["flips"] == []
    stages = json.loads((tmp_path / "out/summary.json").read_text())["stages"]
    assert [each["address"] for each in stages] == [f"{url}/v1"] * 2
    assert [each["n_ctx"] for each in stages] == [900, 8000]


def test_a_conversation_with_an_address_outlives_a_server_that_fails(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    typed_in = io.TextIOWrapper(io.BytesIO(b"Hello\nAgain\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", typed_in)
    with echoing_served(server) as url:
        server.busy = 1
        ended = typed("chat", "--model", f"{url}#org/theirs")
    remote = typed("chat", "--model", "http://192.0.2.7#x")

    assert (ended.returncode, ended.stdout) == (0, "You said: Again\n")
    assert "not answered: the server that has the model does not answer" in ended.stderr
    assert [len(each["messages"]) for each in server.asked] == [1, 1]
    assert remote.returncode == 2 and "not this machine" in remote.stderr


def test_an_answer_that_breaks_off_is_a_line_of_its_own(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hello\n"), encoding="utf-8"))
    with running_server(stand_in(Response(CUT))) as url:
        chat, asked = (
            typed("chat", "--model", url),
            typed("generate", "--model", url, "--prompt", "So?"),
        )

    assert (chat.returncode, chat.stdout) == (0, "It is\n")
    assert (asked.returncode, asked.stdout) == (5, "It is\n")


def test_a_dry_run_asks_nobody_and_writes_no_log(typed: Typed, own_places: Path) -> None:
    place = "http://127.0.0.1:9"  # nobody is there
    told = typed("serve", "--upstream", place, "--dry-run", "--port", "0", "--no-auth")
    assert (told.returncode, told.stderr) == (0, "")
    assert place in told.stdout and "model: null" in told.stdout
    assert not [path for path in own_places.parent.rglob("*") if "audit" in path.parts]
    refused = typed("serve", "--upstream", place, "--dry-run", "--parallel", "8")
    assert refused.returncode == 2 and "serve.parallel is of the engine" in refused.stderr
