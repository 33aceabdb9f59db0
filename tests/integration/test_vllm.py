"""vLLM as an engine, by a stand-in that takes its flags: who may ask, whose prompts are kept."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import interrupted_once_served
from streamed import read

from medllm.artifacts.serving import ServerSettings
from medllm.clinical.settings import ReviewSettings
from medllm.data.example import Message
from medllm.engines.base import EngineDown, GenerateRequest, Piece
from medllm.engines.many import Written, write_answers
from medllm.engines.prompts import ask_chat, ask_messages
from medllm.engines.sampling import Sampling, UnfitSampling
from medllm.engines.servers.chat import Chat, UnfitChat
from medllm.engines.servers.process import Supervised
from medllm.errors import DataError, SetupError
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import load_tokenizer, resolve_model
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.config import ServeConfig
from medllm.serve.guard import Guard
from medllm.serve.model.vllm import VllmEngine, require_vllm
from medllm.serve.server import running_server
from medllm.serve.verb import serve

QUESTION = (Message("user", "Which drugs lower blood pressure? " * 8),)
STAND_IN = Path(__file__).with_name("vllm_stand_in.py")


@pytest.fixture(autouse=True)
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, as the `vllm` that the PATH names."""
    named = tmp_path / "bin" / "vllm"
    named.parent.mkdir()
    named.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/flags\nexec {sys.executable} {STAND_IN} "$@"\n'
    )
    named.chmod(0o755)
    monkeypatch.setenv("PATH", f"{named.parent}:{os.environ['PATH']}")
    return named


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[VllmEngine]:
    with closing(started(tiny_model)) as engine:
        yield engine


def started(model: Path, **settings: Any) -> VllmEngine:
    return VllmEngine(
        resolve_model(str(model)), require_vllm(), n_ctx=512, settings=ServerSettings(**settings)
    )


def asked(engine: VllmEngine, **sampling: Any) -> GenerateRequest:
    return ask_messages(engine, QUESTION, Sampling(**{"max_tokens": 12, **sampling}))


@pytest.mark.parametrize(
    ("sampling", "text", "tokens", "reason"),
    [
        ({}, "w0 w1 w2 w3 w4 w5 ", 6, "stop"),
        ({"max_tokens": 2}, "w0 w1 ", 2, "length"),
        ({"stop": ("w3",)}, "w0 w1 w2 ", 3, "stop"),
    ],
)
def test_an_answer_is_the_same_streamed_and_whole(
    sampling: dict[str, Any], text: str, tokens: int, reason: str, engine: VllmEngine
) -> None:
    async def work() -> list[list[Piece]]:
        request = asked(engine, **sampling)
        return [await read(engine, replace(request, whole=whole)) for whole in (False, True)]

    for pieces in asyncio.run(work()):
        assert "".join(piece.text for piece in pieces) == text
        assert sum(piece.tokens for piece in pieces) == tokens  # that of the end is not counted
        assert pieces[-1].finish_reason == reason


def test_what_one_owner_asked_is_kept_for_that_owner_alone(engine: VllmEngine) -> None:
    async def work() -> list[int]:
        reused = []
        for owner in ("a", "a", "b", "b", None, None):
            await read(engine, replace(asked(engine), owner=owner))
            reused.append(engine.reused_tokens)
        return reused

    first, again, other, other_again, nobody, nobody_again = asyncio.run(work())
    assert first == other == nobody == nobody_again == 0
    assert again == other_again > len(asked(engine).prompt) - 32


def test_it_listens_on_a_socket_of_this_user_and_asks_for_a_key(
    engine: VllmEngine, tmp_path: Path
) -> None:
    socket = engine.server.socket
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
        assert client.post("http://x/v1/completions", json={"prompt": [1]}).status_code == 401
    flags = (tmp_path / "flags").read_text()
    assert f"--uds {socket}" in flags and "--port" not in flags
    assert engine.server.key not in flags  # anyone may read a command line
    assert "--no-enable-log-requests" in flags and "--load-format safetensors" in flags
    assert "--max-model-len 512 --max-num-seqs 64" in flags


def test_a_prompt_that_it_refuses_is_told_without_its_words(engine: VllmEngine) -> None:
    async def work() -> None:
        with pytest.raises(DataError, match="vLLM refused the prompt") as refused:
            await read(engine, GenerateRequest((10**7,)))
        assert "quoted" not in refused.value.message

    asyncio.run(work())


def test_an_answer_comes_with_its_likelihood_and_no_sampling_is_unheeded(
    engine: VllmEngine,
) -> None:
    ((_, written),) = write_answers(engine, [asked(engine)])
    assert isinstance(written, Written)
    assert (written.tokens, written.finish_reason, written.logprob) == (6, "stop", -0.5)
    for unheeded in ({"num_beams": 2}, {"min_p": 0.1, "top_p": 0.9, "temperature": 1.0}):
        with pytest.raises(UnfitSampling, match="the engine vllm cannot"):
            asyncio.run(read(engine, asked(engine, **unheeded)))


def test_an_adapter_is_asked_for_by_its_name_on_its_base(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in tiny_model.glob("*token*"):
        shutil.copyfile(file, folder / file.name)
    config = {"peft_type": "LORA", "r": 12, "base_model_name_or_path": str(tiny_model)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    sizes = {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "parallel": 3}

    with closing(started(folder, **sizes)) as engine:
        (piece,) = asyncio.run(read(engine, replace(asked(engine), whole=True)))

    assert piece.text.startswith("w0")
    flags = (tmp_path / "flags").read_text()
    assert f"serve {tiny_model} " in flags and "--max-lora-rank 16" in flags
    assert "--tensor-parallel-size 2 --gpu-memory-utilization 0.5" in flags
    assert f"--tokenizer {folder} " in flags and "--max-num-seqs 3" in flags


def test_one_that_dies_is_started_again_and_one_that_cannot_start_says_why(
    engine: VllmEngine, tiny_model: Path
) -> None:
    pid = engine.server.process.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    while engine.is_ready:
        time.sleep(0.01)

    async def work() -> str:
        with pytest.raises(EngineDown):
            await read(engine, asked(engine))
        for _ in range(200):
            if engine.is_ready:
                break
            await asyncio.sleep(0.05)
        return "".join(piece.text for piece in await read(engine, asked(engine)))

    assert asyncio.run(work()).startswith("w0")
    with pytest.raises(SetupError, match="vLLM ended at its start(.|\n)*invalid choice") as refused:
        started(tiny_model, distributed_executor_backend="pigeons")
    assert "serve.n_ctx" in refused.value.fix


def test_the_workers_of_a_server_end_with_it_also_when_it_crashes(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! >> {tmp_path}/workers; wait"  # workers hold the GPU's memory
    server = Supervised("a server", ["sh", "-c", script], (tmp_path / "workers").exists)

    def runs() -> list[bool]:
        """Whether each worker runs; one that nobody waits for stays as a zombie."""
        pids = (tmp_path / "workers").read_text().split()
        files = [Path(f"/proc/{pid}/stat") for pid in pids]
        return [file.exists() and file.read_text().split()[2] != "Z" for file in files]

    def wait_for(is_so: Callable[[], bool]) -> None:
        for _ in range(400):
            if is_so():
                return
            time.sleep(0.05)
        raise AssertionError

    server.start(20)
    assert server.pid and runs() == [True]
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: runs() == [False, True])
    server.stop()
    wait_for(lambda: runs() == [False, False])
    assert server.starts == 2


CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Does it go with ibuprofen?"}],
    "tools": [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("dose", "interactions")
    ],
}
CALL = {"name": "dose", "arguments": '{"drug": "warfarin"}'}


@pytest.fixture
def calling(tiny_model: Path) -> Iterator[httpx.Client]:
    """A client of the server before a vLLM that reads calls."""
    with closing(started(tiny_model, tool_call_parser="hermes")) as engine:
        around = Around(guard=Guard(ReviewSettings()))
        app = build_app(engine, model_id="m", callers=Callers(), max_tokens=40, around=around)
        with running_server(app) as url, httpx.Client(base_url=f"{url}/v1", timeout=30) as client:
            yield client


def ask(client: httpx.Client, **more: Any) -> dict[str, Any]:
    told = client.post("/chat/completions", json={**CHAT, **more}).json()
    if "error" in told:
        return dict(told["error"])
    (choice,) = told["choices"]
    return {**choice["message"], "reason": choice["finish_reason"], **told["usage"], **told}


def asked_in_parts(client: httpx.Client, **more: Any) -> dict[str, Any]:
    """The same of a stream."""
    body = {**CHAT, **more, "stream": True, "stream_options": {"include_usage": True}}
    lines = client.post("/chat/completions", json=body).text.split("\n\n")
    *events, usage = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    chunks = [event["choices"][0] for event in events]
    calls: dict[int, dict[str, str]] = {}
    for part in (part for chunk in chunks for part in chunk["delta"].get("tool_calls", ())):
        known = calls.setdefault(part["index"], {"name": part["function"].get("name"), "of": ""})
        known["of"] += part["function"]["arguments"]
    text = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
    told = [
        {"function": {"name": each["name"], "arguments": each["of"]}} for each in calls.values()
    ]
    return {"content": text, "tool_calls": told, "reason": chunks[-1]["finish_reason"],
            **usage["usage"], "safety_report": events[-1]["safety_report"]}  # fmt: skip


@pytest.mark.parametrize("read_all", [ask, asked_in_parts])
def test_tools_are_called_whole_and_in_parts(
    read_all: Callable[..., dict[str, Any]], calling: httpx.Client, tmp_path: Path
) -> None:
    told = read_all(calling)
    assert [call["function"] for call in told["tool_calls"]] == [CALL, CALL]
    assert (told["content"], told["reason"]) == ("w0 w1 w2 w3 w4 w5 ", "tool_calls")
    assert (told["completion_tokens"], told["prompt_tokens"]) == (6, 24)  # a word of JSON is one
    assert told["safety_report"]["risk_level"] == 0

    one = read_all(calling, parallel_tool_calls=False)
    assert [call["function"] for call in one["tool_calls"]] == [CALL]
    assert one["reason"] == "tool_calls"

    named = {"type": "function", "function": {"name": "interactions"}}
    told = read_all(calling, tool_choice=named)
    assert told["tool_calls"][0]["function"]["name"] == "interactions"
    assert told["reason"] == "tool_calls" and told["prompt_tokens"] < 24  # told of that one alone

    none = read_all(calling, tool_choice="none")
    assert not none.get("tool_calls") and none["reason"] == "stop"
    assert read_all(calling, max_tokens=3)["reason"] == "length"
    assert "--tool-call-parser hermes --enable-auto-tool-choice" in (tmp_path / "flags").read_text()


def test_what_a_tool_told_is_sent_back_and_what_does_not_fit_is_refused(
    calling: httpx.Client, tiny_model: Path
) -> None:
    call = {"id": "call-0", "type": "function", "function": CALL}
    turns = [
        *CHAT["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-0", "content": "5 mg"},
    ]
    assert ask(calling, messages=turns)["content"] == "w0 w1 w2 w3 w4 w5 "

    def refused(text: str) -> str:
        told = ask(calling, messages=[{"role": "user", "content": text}])
        assert told["type"] == "invalid_request_error"
        return f"{told['param']}: {told['message']}"

    end = TokenizerTemplate(load_tokenizer(str(tiny_model))).eos_token
    assert f"messages: a text in it spells {end}" in refused(f"Is {end} an end?")
    assert "context holds 512 tokens" in refused("word " * 500)
    assert "vLLM cannot put this conversation" in refused("It is refused by the template")
    assert "quoted" not in refused("It is refused by the template")


def test_without_a_parser_or_a_template_that_knows_them_tools_are_refused(
    engine: VllmEngine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat(tuple(CHAT["messages"]), tuple(CHAT["tools"]))
    with pytest.raises(UnfitChat, match="no serve.tool_call_parser is set") as unset:
        ask_chat(engine, chat, Sampling())
    assert unset.value.param == "tools" and "tool calling" in unset.value.fix
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    seen = Chat(({"role": "user", "content": [image]},))
    with pytest.raises(UnfitChat, match="images: vLLM is given texts alone"):
        ask_chat(engine, seen, Sampling())

    monkeypatch.setenv("STAND_IN_TEMPLATE", "plain")
    with (
        closing(started(tiny_model, tool_call_parser="hermes")) as plain,
        pytest.raises(UnfitChat, match="this model's chat template leaves them out"),
    ):
        ask_chat(plain, chat, Sampling())
    with pytest.raises(SetupError, match="invalid tool call parser: pigeons"):
        started(tiny_model, tool_call_parser="pigeons")


def test_a_short_answer_does_not_wait_for_others_long_ones(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_TOKENS", "400")
    monkeypatch.setenv("STAND_IN_SECONDS", "0.05")  # a long answer takes 20 s
    body = {"prompt": "It is", "stream": True}
    has_begun: list[bool] = []

    def read_on(client: httpx.Client, body: dict[str, Any]) -> str:
        with client.stream("POST", "/v1/completions", json=body) as told:
            lines = told.iter_lines()
            next(lines)
            has_begun.append(True)
            return "".join(lines)

    with closing(started(tiny_model)) as engine, ThreadPoolExecutor(8) as others:
        app = build_app(engine, model_id="m", callers=Callers(), max_tokens=400)
        with running_server(app) as url, httpx.Client(base_url=url, timeout=30) as client:
            begun = [others.submit(read_on, client, body | {"max_tokens": 400}) for _ in range(7)]
            while sum(has_begun) < 7:
                time.sleep(0.01)
            began = time.monotonic()
            with client.stream("POST", "/v1/completions", json=body | {"max_tokens": 1}) as told:
                next(told.iter_lines())
            assert time.monotonic() - began < 5
            assert not any(each.done() for each in begun)
            app.state.end_answers()
            assert all("this answer is incomplete" in each.result() for each in begun)


def test_the_verb_says_which_engine_it_took_and_that_it_is_untested(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask(url: str, printed: str) -> None:
        assert "engine    vllm: as asked; untested: medllm was never run with vLLM" in printed
        body = {"messages": [{"role": "user", "content": "Is it sepsis?"}]}
        told = httpx.post(f"{url}/chat/completions", json=body, timeout=30).json()
        assert told["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 w5 "
        assert told["usage"]["completion_tokens"] == 6

    config = ServeConfig(
        model=str(tiny_model), engine="vllm", no_auth=True, port=0, n_ctx=512,
        audit=tmp_path / "log",
    )  # fmt: skip
    with interrupted_once_served(capfd, ask), pytest.raises(KeyboardInterrupt):
        serve(config)
