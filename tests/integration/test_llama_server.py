"""llama-server as an engine: the same answers, many at once, nobody's prompt for another."""

import asyncio
import json
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from outgoing import outgoing, places
from streamed import read

from medllm import SPINS
from medllm.artifacts.serving import ServerSettings
from medllm.data.example import Message
from medllm.engines.base import EngineDown, GenerateRequest, Piece, Sampling
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.llama_cpp_setup import find_llama_server
from medllm.engines.many import write_answers
from medllm.engines.prompts import ask_messages
from medllm.engines.servers.chat import Chat, UnfitChat
from medllm.engines.servers.llama_chat import A_TOOL
from medllm.engines.servers.llama_server import SPINS_OF_SERVER, LlamaServerEngine
from medllm.engines.servers.process import Supervised
from medllm.engines.writing.stopping import until_stop
from medllm.errors import DataError, SetupError
from medllm.measures.logprobs import write_with_logprobs
from medllm.quantize.gguf.files import convert_to_f16
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller, KeyRing
from medllm.serve.config import ServeConfig
from medllm.serve.server import running_server
from medllm.serve.verb import serve_once

try:
    find_llama_server()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

QUESTION = (Message("user", "Which drugs lower blood pressure?"),)
LONG = (Message("user", "The lungs are clear. The heart is of normal size. " * 8),)


@pytest.fixture(scope="module")
def engine(tiny_f16: Path) -> Iterator[LlamaServerEngine]:
    with closing(
        LlamaServerEngine(tiny_f16, n_ctx=256, settings=ServerSettings(parallel=2))
    ) as engine:
        yield engine


def started(model: Path, parallel: int) -> LlamaServerEngine:
    settings = ServerSettings(parallel=parallel, n_threads=1, n_gpu_layers=0)
    return LlamaServerEngine(model, n_ctx=256, settings=settings)


def asked(
    engine: LlamaServerEngine, messages: tuple[Message, ...] = QUESTION, **sampling: Any
) -> GenerateRequest:
    return ask_messages(engine, messages, Sampling(**{"max_tokens": 12, **sampling}))


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("messages", [QUESTION, LONG])
@pytest.mark.parametrize("sampling", [
    {}, {"repetition_penalty": 1.4}, {"temperature": 0.9, "top_p": 0.8, "top_k": 9, "seed": 3},
])  # fmt: skip
def test_it_answers_as_llama_cpp_does_in_this_process(
    messages: tuple[Message, ...],
    sampling: dict[str, Any],
    engine: LlamaServerEngine,
    tiny_f16: Path,
) -> None:
    with closing(LlamaCppEngine(tiny_f16, n_ctx=256)) as here:
        expected = list(here.generate(asked(engine, messages, **sampling)))

    async def work() -> list[list[Piece]]:
        request = asked(engine, messages, **sampling)
        return [await read(engine, replace(request, whole=whole)) for whole in (False, True)]

    streamed, whole = asyncio.run(work())
    if "seed" not in sampling:  # samplers draw from generators of their own
        assert text_of(streamed) == text_of(expected)
    assert text_of(streamed) == text_of(whole)
    assert streamed[-1].finish_reason == whole[-1].finish_reason == expected[-1].finish_reason
    assert sum(p.tokens for p in streamed) == sum(p.tokens for p in whole)
    assert len(whole) == 1 < len(streamed)


def test_what_ends_an_answer_is_no_token_of_it_but_has_a_likelihood(
    engine: LlamaServerEngine, tiny_f16: Path
) -> None:
    end = engine.encode(engine.eos_token, add_special_tokens=False)[-1]
    request = replace(asked(engine, logit_bias=((end, 100.0),)), logprobs=1)
    with closing(LlamaCppEngine(tiny_f16, n_ctx=256)) as here:
        (expected,) = (p for p in write_with_logprobs(here, request) if p.finish_reason)

    async def work() -> list[list[Piece]]:
        return [await read(engine, replace(request, whole=whole)) for whole in (False, True)]

    streamed, (whole,) = asyncio.run(work())
    counts = [sum(piece.tokens for piece in streamed), whole.tokens, expected.tokens]
    assert (counts, whole.finish_reason, whole.text) == ([0, 0, 0], "stop", "")
    for told in (whole, expected):
        assert len(told.logprobs) == 1 and len(told.logprobs[0].top) == 1
    assert whole.logprobs[0].logprob == pytest.approx(expected.logprobs[0].logprob, abs=1e-3)


def test_a_stream_tells_the_same_logprobs_each_with_its_token(engine: LlamaServerEngine) -> None:
    request = replace(asked(engine), logprobs=2)

    async def work() -> list[list[Piece]]:
        stopped = replace(request, sampling=replace(request.sampling, stop=("no such text",)))
        asked = (request, stopped, replace(request, whole=True))
        return [await read(engine, each) for each in asked]

    streamed, stopped, (whole,) = asyncio.run(work())
    for pieces in (streamed, stopped):
        told = [each for piece in pieces for each in piece.logprobs]
        assert [each.text for each in told] == [each.text for each in whole.logprobs]
        for one, other in zip(told, whole.logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-2)
    assert all(piece.logprobs for piece in streamed if piece.text)


def test_an_answer_fits_its_json_schema(engine: LlamaServerEngine) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    schema |= {"additionalProperties": False}
    held = replace(asked(engine, max_tokens=60, json_schema=json.dumps(schema)), whole=True)
    unknown = replace(asked(engine, json_schema='{"type": "nonsense"}'), whole=True)

    async def work() -> Any:
        told = text_of(await read(engine, held))
        with pytest.raises(DataError, match="JSON schema"):
            await read(engine, unknown)
        return told

    told = asyncio.run(work())
    assert re.match(r'\{\s*"a"\s*:\s*("[xy]"|\s*$)', told), told


def test_a_model_whose_template_leaves_tools_out_is_refused(engine: LlamaServerEngine) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    chat = Chat(({"role": "user", "content": "Order it."},), (tool,))
    with pytest.raises(UnfitChat, match="chat template leaves them out"):
        engine.read_chat(chat, Sampling())
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(UnfitChat, match="without its projector"):
        engine.read_chat(Chat(({"role": "user", "content": [image]},)), Sampling())


OFFERS = """{{ bos_token }}{{ tools | tojson if tools }}{% for message in messages %}
{{- message.role + ': ' + message.content + eos_token }}{% endfor %}"""
"""A chat template that tells of tools, and as LFM2's of no calls."""


def test_calls_that_a_template_leaves_out_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    for path in folder.glob("chat_template*"):
        path.unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    settings["chat_template"] = OFFERS
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    convert_to_f16(folder, tmp_path / "m.gguf", title="m")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    user = {"role": "user", "content": "Order it."}
    told = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    told += [{"role": "tool", "tool_call_id": "1", "content": "Done."}]
    with closing(started(tmp_path / "m.gguf", 1)) as engine:
        assert engine.read_chat(Chat((user,), (A_TOOL,), "auto"), Sampling())
        named = {"type": "function", "function": {"name": "f"}}
        for choice in ("required", named):
            with pytest.raises(UnfitChat, match="leaves calls out"):
                engine.read_chat(Chat((user,), (A_TOOL,), choice), Sampling())
        with pytest.raises(UnfitChat, match="leaves calls out"):
            engine.read_chat(Chat((user, *told), (A_TOOL,)), Sampling())


def test_settings_of_the_environment_change_no_answer(
    engine: LlamaServerEngine,
    tiny_f16: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLAMA_ARG_ROPE_FREQ_BASE", "100")
    monkeypatch.setenv("LLAMA_SERVER_SLOTS_DEBUG", "1")  # it would tell prompts
    with closing(started(tiny_f16, 1)) as other:
        assert (
            "LLAMA_ARG_ROPE_FREQ_BASE, LLAMA_SERVER_SLOTS_DEBUG: not passed on"
            in capfd.readouterr().err
        )
        one, two = (asyncio.run(read(each, asked(each, LONG))) for each in (engine, other))
    assert text_of(one) == text_of(two)


def test_it_tells_how_likely_its_answers_are(engine: LlamaServerEngine, tiny_f16: Path) -> None:
    sampling = Sampling(max_tokens=9, repetition_penalty=1.2)
    requests = [GenerateRequest(messages=each, sampling=sampling) for each in (QUESTION, LONG)]
    with closing(LlamaCppEngine(tiny_f16, n_ctx=256)) as here:
        expected = dict(write_answers(here, requests))
    found = dict(write_answers(engine, requests))
    for place, written in expected.items():
        assert asdict(found[place]) == pytest.approx(asdict(written), abs=1e-2)  # type: ignore[call-overload]


def test_a_stop_string_is_not_shown(engine: LlamaServerEngine) -> None:
    async def work() -> None:
        free = await read(engine, asked(engine))
        text = text_of(free)
        for stop in ((text[6:9],), (text[6:11], text[7:9]), (text[:3], text[1:2])):
            stopped = await read(engine, asked(engine, stop=stop))
            assert text_of(stopped) == text_of(list(until_stop(free, stop))) != text
            assert stopped[-1].finish_reason == "stop"

    asyncio.run(work())


def test_what_one_owner_asked_is_kept_for_that_owner_alone(engine: LlamaServerEngine) -> None:
    request = asked(engine, LONG, max_tokens=2)
    owners = ("a", "a", "b", "b", None, None)

    async def work() -> list[int]:
        reused = []
        for owner in owners:
            await read(engine, replace(request, owner=owner))
            reused.append(engine.reused_tokens)
        return reused

    size = len(request.prompt)
    first, again, other, other_again, nobody, nobody_again = asyncio.run(work())
    assert first == other == nobody == nobody_again == 0
    assert again == other_again == size - 1


def test_a_second_turn_reuses_what_the_same_key_asked_and_no_other(
    engine: LlamaServerEngine, tmp_path: Path
) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    keys = [ring.add(Caller(name=name)) for name in ("ward-1", "ward-2")]
    app = build_app(engine, model_id="m", callers=Callers(None, ring), max_tokens=8)
    first = [{"role": turn.role, "content": turn.content} for turn in LONG]

    with running_server(app) as url, httpx.Client(base_url=url, timeout=60) as client:

        def ask(key: str, messages: list[dict[str, str]]) -> tuple[str, int, int]:
            body = {"messages": messages, "max_tokens": 4}
            headers = {"Authorization": f"Bearer {key}"}
            told = client.post("/v1/chat/completions", json=body, headers=headers).json()
            text = told["choices"][0]["message"]["content"]
            return text, told["usage"]["prompt_tokens"], engine.reused_tokens

        answer, size, reused = ask(keys[0], first)
        turns = [*first, {"role": "assistant", "content": answer},
                 {"role": "user", "content": "Is it normal?"}]  # fmt: skip
        _, more, of_own = ask(keys[0], turns)
        _, _, of_other = ask(keys[1], turns)

    assert reused == of_other == 0
    assert size - 4 <= of_own < more


def test_more_answers_than_slots_wait_and_do_not_cross(engine: LlamaServerEngine) -> None:
    prompts = [(Message("user", f"Give {number} mg of aspirin."),) for number in range(6)]

    async def work() -> tuple[list[str], list[str]]:
        alone = [text_of(await read(engine, asked(engine, each))) for each in prompts]
        several = await asyncio.gather(*(read(engine, asked(engine, each)) for each in prompts))
        return alone, [text_of(each) for each in several]

    alone, together = asyncio.run(work())
    assert together == alone


def test_an_answer_that_nobody_reads_frees_its_slot(engine: LlamaServerEngine) -> None:
    async def work() -> None:
        for _ in range(4):  # of two slots
            pieces: AsyncIterator[Piece] = engine.stream(asked(engine, max_tokens=200))
            await anext(pieces)
            await pieces.aclose()  # type: ignore[attr-defined]
        pieces = await asyncio.wait_for(read(engine, asked(engine)), 20)
        assert text_of(pieces) and pieces[-1].finish_reason

    asyncio.run(work())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerateRequest(), "empty"),
        (GenerateRequest((1,) * 256), "256"),
        (GenerateRequest((10**7,)), "refused the request"),
    ],
)
def test_what_cannot_be_answered_is_said(
    request_: GenerateRequest, message: str, engine: LlamaServerEngine
) -> None:
    async def work() -> None:
        with pytest.raises(DataError, match=message):
            await read(engine, request_)

    asyncio.run(work())


def test_it_listens_on_no_address_and_nobody_else_may_ask(engine: LlamaServerEngine) -> None:
    socket = engine.server.socket
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
        assert client.post("http://x/completion", json={"prompt": [1]}).status_code == 401


@pytest.mark.parametrize(("said", "told"), [(SPINS, SPINS_OF_SERVER), ("7", "7"), (None, None)])
def test_its_threads_stay_awake_between_two_steps_unless_somebody_says_otherwise(
    said: str | None, told: str | None, tiny_f16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if said:
        monkeypatch.setenv("GOMP_SPINCOUNT", said)

    with closing(started(tiny_f16, 1)) as engine:
        its = Path(f"/proc/{engine.server.process.pid}/environ").read_text().split("\0")

    assert dict(each.split("=", 1) for each in its if each).get("GOMP_SPINCOUNT") == told


def test_an_engine_that_dies_is_started_again(tiny_f16: Path) -> None:
    with closing(
        LlamaServerEngine(tiny_f16, n_ctx=256, settings=ServerSettings(parallel=1))
    ) as engine:
        folder, pid = engine.server.socket.parent, engine.server.process.pid
        assert pid

        async def work() -> None:
            before = text_of(await read(engine, asked(engine)))
            pieces = engine.stream(asked(engine, max_tokens=200))
            await anext(pieces)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(EngineDown):
                async for _ in pieces:
                    pass
            while engine.server.process.ready:
                await asyncio.sleep(0.01)
            with pytest.raises(EngineDown):
                await read(engine, asked(engine))
            for _ in range(200):
                if engine.server.process.ready:
                    break
                await asyncio.sleep(0.05)
            assert text_of(await read(engine, asked(engine))) == before

        asyncio.run(work())
        assert engine.server.process.starts == 2
        last = engine.server.process.pid
    assert last and not Path(f"/proc/{last}").exists()
    assert not folder.exists()


def test_a_server_that_ends_at_its_start_says_its_last_lines() -> None:
    server = Supervised("a server", ["sh", "-c", "echo no room; exit 3"], lambda: False)

    with pytest.raises(SetupError, match="a server ended at its start\n  no room"):
        server.start(20)


def test_a_server_that_never_becomes_ready_is_ended() -> None:
    server = Supervised("a server", ["sleep", "100"], lambda: False)

    with pytest.raises(SetupError, match="was not ready within 0 s"):
        server.start(0.2)
    assert not Path(f"/proc/{server.pid}").exists()


def test_it_is_served_and_an_engine_that_is_down_is_a_503(tiny_f16: Path) -> None:
    with closing(
        LlamaServerEngine(tiny_f16, n_ctx=256, settings=ServerSettings(parallel=2))
    ) as engine:
        app = build_app(engine, model_id="tiny", callers=Callers("key"), max_tokens=64)
        with (
            running_server(app) as url,
            httpx.Client(
                base_url=f"{url}/v1/", headers={"Authorization": "Bearer key"}, timeout=60
            ) as client,
        ):
            body = {"model": "tiny", "max_tokens": 8, "messages": [
                {"role": "user", "content": "Is it sepsis?"}]}  # fmt: skip
            whole = client.post("chat/completions", json=body).json()
            assert whole["choices"][0]["message"]["content"]
            assert whole["usage"]["completion_tokens"] == 8
            streamed = client.post("chat/completions", json=body | {"stream": True}).text
            assert streamed.endswith("data: [DONE]\n\n")

            pid = engine.server.process.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            while engine.server.process.ready:
                time.sleep(0.01)
            down = client.post("chat/completions", json=body)
            assert down.status_code == 503
            assert down.headers["retry-after"]
            assert down.json()["error"]["code"] == "engine_down"


def test_a_gguf_file_is_served_by_it(tiny_f16: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with outgoing() as made:
        assert serve_once(ServeConfig(model=str(tiny_f16), max_tokens=4, n_ctx=128, no_auth=True))
    engine = {each for each in places(made) if isinstance(each, str)}
    assert {Path(each).name for each in engine} == {"engine.sock"}
    assert {host for host, _ in places(made) - engine} == {"127.0.0.1"}  # the question itself
    assert "one at a time" not in capfd.readouterr().err
