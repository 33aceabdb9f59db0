"""What a request asks for comes back, or a refusal says why: several answers, limits, extras."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.report import Report
from medllm.clinical.settings import ReviewSettings
from medllm.data.example import Message, read_jsonl
from medllm.engines.base import GenerateRequest, Piece, TokenLogprob
from medllm.engines.fake import FakeEngine

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.callers.keys import Caller, KeyRing  # noqa: E402
from medllm.serve.guard import Guard, GuardedAnswer  # noqa: E402
from medllm.serve.guard import Held as HeldAnswer  # noqa: E402

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
TURNS = [{"role": "user", "content": "Hi"}]
PNG = "data:image/png;base64,"


def app_of(engine: Any = None, around: Around | None = None, callers: Callers | None = None) -> Any:
    return build_app(
        engine or FakeEngine(context_length=500), model_id="m", callers=callers or Callers(),
        max_tokens=99, around=around,
    )  # fmt: skip


def send(app: Any, path: str, body: Any, key: str = "") -> Any:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, json=body, headers=headers)

    return asyncio.run(ask())


def answered(path: str = CHAT, app: Any = None, **body: Any) -> dict[str, Any]:
    asked = ({"messages": TURNS} if path == CHAT else {"prompt": "Hi"}) | body
    response = send(app or app_of(), path, asked)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def refused(path: str = CHAT, app: Any = None, **body: Any) -> dict[str, Any]:
    asked = ({"messages": TURNS} if path == CHAT else {"prompt": "Hi"}) | body
    response = send(app or app_of(), path, asked)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def test_each_prompt_gets_its_answers_in_order() -> None:
    told = answered(COMPLETE, prompt=["a", "bb"], n=2, max_tokens=20, seed=1)
    assert [each["index"] for each in told["choices"]] == [0, 1, 2, 3]
    texts = ["You said: a", "You said: a", "You said: bb", "You said: bb"]
    assert [each["text"] for each in told["choices"]] == texts
    # a prompt is read once, however many answers it gets
    assert told["usage"]["prompt_tokens"] == (1 + 1) + (1 + 2)
    assert told["usage"]["completion_tokens"] == sum(map(len, texts))


def test_several_answers_are_streamed_one_after_another() -> None:
    body = {"messages": TURNS, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    lines = send(app_of(), CHAT, body).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    *events, usage = [json.loads(line[6:]) for line in lines[:-2]]
    texts = ["", ""]
    for event in events:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["You said: Hi"] * 2
    assert usage["usage"]["completion_tokens"] == 24


def test_one_request_gets_a_bounded_number_of_answers() -> None:
    assert refused(COMPLETE, prompt=["a"] * 65, n=2)["param"] == "n"
    assert refused(COMPLETE, prompt=["a"] * 129)["param"] == "prompt"
    assert refused(n=0)["param"] == "n"


def test_each_answer_is_reviewed_and_has_its_line(tmp_path: Path) -> None:
    log = open_log(tmp_path, "m")
    app = app_of(around=Around(guard=Guard(ReviewSettings()), audit=log))
    bad = "Take warfarin 5 mg and ibuprofen 400 mg daily."
    told = answered(COMPLETE, app, prompt=["Rest.", bad], max_tokens=90)
    log.close()
    first, second = (each["safety_report"]["risk_level"] for each in told["choices"])
    assert (first, second > 0) == (0, True)
    assert told["safety_report"]["risk_level"] == second  # beside all, the worst of them
    lines = [line for path in tmp_path.glob("*.jsonl") for line in read_jsonl(path)]
    mine = [line for line in lines if line["event"] == "answer"]
    assert {line["id"] for line in mine} == {told["id"]}
    assert sorted(line["choice"] for line in mine) == [0, 1]


def test_a_key_that_may_ask_twice_a_minute_gets_two_answers(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    key = ring.add(Caller(name="ward", requests_per_minute=2))
    app = app_of(callers=Callers(None, ring))
    wanted = send(app, CHAT, {"messages": TURNS, "n": 3}, key)
    assert wanted.status_code == 400 and wanted.json()["error"]["param"] == "n"  # never will do
    assert send(
        app_of(callers=Callers(None, ring)), CHAT, {"messages": TURNS, "n": 2}, key
    ).is_success


def test_more_tokens_than_there_are_is_clamped_and_said() -> None:
    told = answered(max_tokens=10**30)
    assert told["clamped"] == {"max_tokens": 99}
    room = answered(COMPLETE, prompt="x" * 450, max_tokens=80)
    assert room["clamped"] == {"max_tokens": 49} and room["usage"]["completion_tokens"] == 49
    assert room["choices"][0]["finish_reason"] == "length"
    assert "clamped" not in answered(max_tokens=99) and "clamped" not in answered()
    body = {"messages": TURNS, "max_completion_tokens": 100, "stream": True}
    events = send(app_of(), CHAT, body).text.split("\n\n")
    assert json.loads(events[-3][6:])["clamped"] == {"max_completion_tokens": 99}


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"logit_bias": {"999": 1}}, "logit_bias", "999 is no token id"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format: the"),
        ({"max_new_tokens": 5}, "max_new_tokens", "it is called max_tokens here"),
        ({"patient_context": {"agee": 5}}, "patient_context", "did you mean 'age'"),
        ({"messages": ["Hi"]}, "messages.0", "must be a JSON object"),
        ({"messages": "Hi"}, "messages", "must be a list"),
        ({"stop": ["a"] * 5}, "stop", "has at most 4 items"),
        ({"stop": ["a" * 1025]}, "stop.0", "has at most 1,024 characters"),
    ],
)
def test_a_refusal_names_the_field_and_what_would_do(
    body: dict[str, Any], param: str, says: str
) -> None:
    error = refused(app=app_of(around=Around(guard=Guard(ReviewSettings()))), **body)
    assert error["param"] == param and says in error["message"]


def test_embeddings_are_refused_with_the_reason() -> None:
    response = send(app_of(), "/v1/embeddings", {"input": "a", "model": "m"})
    assert response.status_code == 400
    assert "compare texts" in response.json()["error"]["message"]


def test_health_names_nothing() -> None:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app_of(callers=Callers("key")))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/health")).json()

    told = asyncio.run(ask())
    assert (told["status"], told["model_loaded"]) == ("ok", True)
    assert told.keys() == {"status", "model_loaded", "gpu_available"}


def test_token_ids_are_prompts_and_the_review_reads_their_text() -> None:
    ids = [[256, *b"Hi"], [*b"Take warfarin 5 mg and ibuprofen 400 mg daily."]]
    told = answered(COMPLETE, app_of(around=Around(guard=Guard(ReviewSettings()))), prompt=ids)
    assert told["choices"][0]["text"] == "You said: Hi"
    assert told["usage"]["prompt_tokens"] == sum(map(len, ids))
    one = answered(COMPLETE, prompt=[256, *b"Hi"], echo=True)
    assert one["choices"][0]["text"] == "<bos>HiYou said: Hi"


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ([65, 258], "258 is no token id"),
        ([65, -1], "list of token ids"),
        ([65, 1.0], "list of token ids"),
        ([True], "list of token ids"),
        ([[65], []], "list of token ids"),
        ([65] * 510, "the prompt has 510 tokens, 11 too many; this model's context holds 500"),
    ],
)
def test_what_are_no_token_ids_is_refused(prompt: list[Any], told: str) -> None:
    error = refused(COMPLETE, prompt=prompt)
    assert error["param"] == "prompt" and told in error["message"]


def test_what_lm_eval_asks_for() -> None:
    """Its `local-completions`: the tokens' own likelihoods, and those of the likeliest there."""
    context, continuation = [*b"aaa"], [*b"ab"]
    asked = {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0, "seed": 1234}
    told = answered(COMPLETE, prompt=[context + continuation, context], **asked)
    for choice, ids in zip(told["choices"], ([*b"aaaab"], [*b"aaa"]), strict=True):
        logprobs = choice["logprobs"]
        assert logprobs["tokens"] == [*map(chr, ids), "Y"]
        assert {len(each) for each in logprobs.values()} == {len(ids) + 1}
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert choice["text"] == "".join(map(chr, ids)) + "Y"
    logprobs = told["choices"][0]["logprobs"]
    own, top = logprobs["token_logprobs"][3:-1], logprobs["top_logprobs"][3:-1]
    half, rest = -0.6931, -6.2422  # the fake's: the last token again, else one of 257
    assert [round(each, 4) for each in own] == [half, rest]
    greedy = [each == max(there.values()) for each, there in zip(own, top, strict=True)]
    assert greedy == [True, False]


def test_the_token_that_ends_an_answer_has_a_likelihood_too() -> None:
    told = answered(COMPLETE, prompt="a", logprobs=0, max_tokens=50)
    tokens = told["choices"][0]["logprobs"]["tokens"]
    assert tokens == [*"You said: a", "<end>"]
    assert told["usage"]["completion_tokens"] == len("You said: a")


def test_logprobs_of_a_chat() -> None:
    told = answered(logprobs=True, top_logprobs=2, max_tokens=3)
    content = told["choices"][0]["logprobs"]["content"]
    assert [each["token"] for each in content] == ["Y", "o", "u"]
    assert content[0]["bytes"] == [89] and len(content[0]["top_logprobs"]) == 2
    assert answered()["choices"][0]["logprobs"] is None


def test_the_words_of_an_answer_that_is_withheld_are_in_no_logprobs() -> None:
    around = Around(guard=Guard(ReviewSettings(policy="block", block_unverified=True)))
    body = {"prompt": "Take isotretinoin 20 mg daily.", "patient_context": {"pregnant": True}}
    told = answered(COMPLETE, app_of(around=around), logprobs=1, max_tokens=60, **body)
    (choice,) = told["choices"]
    assert (choice["finish_reason"], choice["logprobs"]) == ("content_filter", None)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETE, {"logprobs": 21}, "logprobs"),
        (COMPLETE, {"logprobs": -1}, "logprobs"),
        (CHAT, {"top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"logprobs": 1}, "logprobs"),
        (CHAT, {"echo": True}, "echo"),
        (CHAT, {"logit_bias": {"258": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"a": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"5": 1, "05": -1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"٣": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"5": 101}}, "logit_bias.5"),
        (CHAT, {"top_k": -2}, "top_k"),
        (CHAT, {"min_p": 1.1}, "min_p"),
        (CHAT, {"repetition_penalty": 0}, "repetition_penalty"),
        (CHAT, {"presence_penalty": 2.1}, "presence_penalty"),
    ],
)
def test_what_cannot_be_done_is_refused(path: str, body: dict[str, Any], param: str) -> None:
    assert refused(path, **body)["param"] == param


def test_sampling_reaches_the_engine() -> None:
    asked: list[GenerateRequest] = []

    class Asked(FakeEngine):
        def generate(self, request: GenerateRequest) -> Any:
            asked.append(request)
            return super().generate(request)

    body = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 0.5}
    body |= {"frequency_penalty": -0.5, "temperature": 1, "seed": 7}
    answered(app=app_of(Asked()), **body, logit_bias={"65": -100}, n=2)
    named = [request.sampling.named for request in asked]
    assert [each.pop("seed") for each in named] == [7, 8]
    assert [each.pop("max_tokens") for each in named] == [99, 99]
    assert (
        named
        == [{**{k: v for k, v in body.items() if k != "seed"}, "logit_bias": ((65, -100),)}] * 2
    )


@pytest.mark.parametrize(
    ("engine", "body", "param"),
    [
        ("openai", {"top_k": 5}, "top_k"),
        ("openai", {"logit_bias": {"5": 1}}, "logit_bias"),
        ("openai", {"logprobs": 1}, "logprobs"),
        ("openai", {"prompt": [65]}, "prompt"),
        ("llama_server", {"frequency_penalty": 1}, "frequency_penalty"),
        ("openai", {"response_format": {"type": "json_object"}}, "response_format"),
        ("llama_cpp", {"response_format": {"type": "json_object"}}, "response_format"),
        ("llama_server", {"logprobs": 1, "echo": True}, "logprobs"),
    ],
)
def test_what_an_engine_would_not_heed_is_refused(
    engine: str, body: dict[str, Any], param: str
) -> None:
    class Elsewhere:
        name, context_length, unused_settings, parallel, is_ready = engine, 500, {}, 4, True

        def stream(self, request: GenerateRequest) -> Any:
            raise AssertionError("it was asked")

        async def disconnect(self) -> None: ...

        def close(self) -> None: ...

    error = refused(COMPLETE, app_of(Elsewhere()), **body)
    assert error["param"] == param and engine.replace("_", "-") in error["message"].replace(
        "_", "-"
    )


def test_the_plain_form_tells_the_mean_likelihood() -> None:
    told = send(app_of(), "/generate", {"question": "Hi", "max_length": 200}).json()
    assert round(told["mean_token_logprob"], 6) == -0.1
    assert told["clamped"] == {"max_length": 99} and told["response_id"].startswith("chatcmpl-")


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "question", "is needed"),
        ({"question": "x" * 600}, "question", "context holds 500 tokens"),
        ({"question": "x" * 10**5}, "question", "bytes"),
        ({"question": ""}, "question", "must not be empty"),
        ({"question": "Hi", "max_length": 0}, "max_length", "greater than or equal to 1"),
        ({"question": "Hi", "temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"question": "Hi", "use_safety": "no"}, "use_safety", "boolean"),
        ({"question": "Hi", "use_safety": False}, "use_safety", "reviews every answer"),
        ({"question": "Hi", "patient_context": {"ages": 3}}, "patient_context", "ages"),
        ({"question": "Hi", "max_tokens": 3}, "max_tokens", "no such field; /openapi.json"),
    ],
)
def test_the_plain_form_refuses_in_its_own_words(
    body: dict[str, Any], param: str, says: str
) -> None:
    around = Around(guard=Guard(ReviewSettings()))
    error = send(app_of(around=around), "/generate", body).json()["error"]
    assert error["param"] == param and says in error["message"]
    bare = send(app_of(FakeEngine(has_chat_template=False)), "/generate", {"question": "Hi"})
    assert bare.json()["error"]["param"] == "question"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}, "never fetched"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "never fetched"),
        ({"type": "image_url", "image_url": 5}, "never fetched"),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            "no PNG or JPEG",
        ),
        ({"type": "image_url", "image_url": {"url": f"{PNG}iVBORw0KGgo="}}, "without projector"),
        ({"type": "image_url", "image_url": {"url": f"{PNG}iVBORw0KGgo"}}, "not in base64"),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,iVBORw0KGgo="}},
            "kind",
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}}, "data URL"),
        (
            {"type": "image_url", "image_url": {"url": f"{PNG}iVBORw0KGgo=", "x": 1}},
            "image_url.x: not supported",
        ),
        ({"type": "text", "text": "Hi", "x": 1}, "messages.0.content: x: not supported"),
        ({"type": "input_audio", "input_audio": {}}, "no audio"),
        ({"type": "text"}, "of type text"),
        ("text", "of type text"),
    ],
)
def test_parts_that_are_not_text_are_refused_with_the_reason(part: Any, told: str) -> None:
    error = refused(messages=[{"role": "user", "content": [part]}])
    assert error["param"].startswith("messages") and told in error["message"]


SCHEMA = {"type": "object", "properties": {"dose_mg": {"type": "number"}}}


class Held:
    """An engine that holds its answers to a schema, as llama-server does."""

    name, context_length, parallel, is_ready = "llama_server", 500, 4, True
    unused_settings: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.asked: list[GenerateRequest] = []

    async def stream(self, request: GenerateRequest) -> Any:
        self.asked.append(request)
        yield Piece('{"dose_mg": 5}', 5, "stop")

    async def disconnect(self) -> None: ...

    def close(self) -> None: ...


def test_a_json_schema_reaches_an_engine_that_heeds_it() -> None:
    engine, asked = Held(), {"type": "json_schema", "json_schema": {"name": "d", "schema": SCHEMA}}
    told = answered(app=app_of(engine), response_format=asked)
    assert json.loads(told["choices"][0]["message"]["content"]) == {"dose_mg": 5}
    answered(app=app_of(engine), response_format={"type": "json_object"})
    answered(app=app_of(engine), response_format={"type": "text"})
    schemas = [request.sampling.json_schema for request in engine.asked]
    assert schemas == [json.dumps(SCHEMA), '{"type": "object"}', None]


def test_warnings_in_an_answer_would_be_no_json() -> None:
    guard = Guard(ReviewSettings(policy="append"))
    error = refused(
        app=app_of(Held(), Around(guard=guard)), response_format={"type": "json_object"}
    )
    assert error["param"] == "response_format" and "adds warnings" in error["message"]


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_object", "json_schema": {"schema": SCHEMA}},
        {"type": "json_schema", "json_schema": {"schema": []}},
        {"type": "json_schema", "json_schema": {"schema": {"x": "y" * 70_000}}},
        "json",
    ],
)
def test_what_is_no_response_format_is_refused(asked: Any) -> None:
    assert refused(app=app_of(Held()), response_format=asked)["param"].startswith("response_format")


LOGPROBS = {"logprobs": True, "top_logprobs": 1}


class Telling(Held):
    """An engine that tells each token with its logprob, as llama-server does.

    `held` are tokens whose text comes with the next one, as where a stop string may begin.
    """

    def __init__(self, *tokens: str, held: Sequence[int] = ()) -> None:
        super().__init__()
        self.tokens, self.held = tokens, held

    async def stream(self, request: GenerateRequest) -> Any:
        text = ""
        for place, token in enumerate(self.tokens):
            text += token
            likely = TokenLogprob(token, -0.5, ((token, -0.5),)) if request.logprobs else None
            told = (likely,) if likely else ()
            if place in self.held:
                yield Piece("", 1, logprobs=told)
                continue
            yield Piece(text, 1, logprobs=told)
            text = ""
        end = TokenLogprob("<end>", -0.1) if request.logprobs else None
        yield Piece(text, 0, logprobs=(end,) if end else ())
        yield Piece("", 0, "stop")


def told_in_stream(engine: Any, policy: str | None, **more: Any) -> list[tuple[str, str]]:
    """The text and the tokens of each chunk."""
    around = Around(guard=Guard(ReviewSettings(policy=policy))) if policy else None  # type: ignore[arg-type]
    body = {"messages": TURNS, "stream": True, **LOGPROBS, **more}
    response = send(app_of(engine, around), CHAT, body)
    assert response.text.endswith("data: [DONE]\n\n"), response.text
    chunks = []
    for line in response.text.split("\n\n")[:-2]:
        (choice,) = json.loads(line[6:])["choices"]
        content = (choice["logprobs"] or {}).get("content", ())
        tokens = "".join(each["token"] for each in content)
        chunks.append((choice["delta"].get("content", ""), tokens))
    return [chunk for chunk in chunks if any(chunk)]


GOOD = ("Drink", " water.", " Rest", " a", " day", ".")
BAD = ("Rest.", " Take", " metho", "trexate 25", " mg", " daily", ".")


@pytest.mark.parametrize("policy", [None, "annotate"])
def test_logprobs_come_with_their_text(policy: str | None) -> None:
    chunks = told_in_stream(Telling(*GOOD), policy)
    assert chunks == [*((token, token) for token in GOOD), ("", "<end>")]


def test_logprobs_of_sentences_come_when_these_are_released() -> None:
    chunks = told_in_stream(Telling(*GOOD), "block")
    assert chunks == [("Drink water.", "Drink water."), (" Rest a day.", " Rest a day.<end>")]


@pytest.mark.parametrize("held", [(), (1,), (1, 2, 3), (0, 1, 2, 3, 4, 5, 6)])
def test_no_logprob_tells_a_word_that_is_withheld(held: tuple[int, ...]) -> None:
    chunks = told_in_stream(Telling(*BAD, held=held), "block")
    tokens = "".join(token for _, token in chunks)
    assert tokens in ("", "Rest.") and "Take" not in "".join(text for text, _ in chunks)
    assert "withheld" in chunks[-1][0]


def test_a_token_that_reaches_into_the_next_sentence_waits_for_it() -> None:
    chunks = told_in_stream(Telling("Rest", ". Drink", " a lot", "."), "block")
    assert chunks == [("Rest.", "Rest"), (" Drink a lot.", ". Drink a lot.<end>")]
    bad = told_in_stream(Telling("Rest", ". Take", *BAD[2:]), "block")
    assert [token for _, token in bad] == ["Rest", ""]


def test_warnings_that_are_added_have_no_logprobs() -> None:
    chunks = told_in_stream(Telling(*BAD), "append")
    assert "".join(token for _, token in chunks) == "".join(BAD) + "<end>"
    assert "Warnings" in chunks[-1][0] and chunks[-1][1] == ""


def test_offsets_of_a_streamed_completion_go_on() -> None:
    body = {"prompt": "Hi", "stream": True, "logprobs": 1}
    lines = send(app_of(Telling(*GOOD)), COMPLETE, body).text.split("\n\n")[:-2]
    told = [json.loads(line[6:])["choices"][0] for line in lines]
    known = [each["logprobs"] for each in told if each["logprobs"]]
    assert [each["text_offset"] for each in known] == [[0], [5], [12], [17], [19], [23], [24]]
    assert known[1]["tokens"] == [" water."] and known[1]["token_logprobs"] == [-0.5]


def test_an_engine_of_this_process_tells_them_at_the_end() -> None:
    assert told_in_stream(FakeEngine(), None)[-1] == ("", "You said: Hi<end>")
    assert told_in_stream(FakeEngine(), "block")[-1] == (" Hi", "You said: Hi<end>")
    message = [{"role": "user", "content": "methotrexate 25 mg daily."}]
    (text, tokens), *_ = told_in_stream(FakeEngine(), "block", messages=message)
    assert "withheld" in text and not tokens


def said_of(guard: Guard, question: str, *, whole: bool, begin: Callable[[], None]) -> str:
    """What goes out of an answer whose engine calls `begin` first."""

    async def written() -> AsyncIterator[Piece]:
        begin()
        yield Piece("Rest.", 2, "stop")

    async def read() -> str:
        guarded = GuardedAnswer(guard, [Message("user", question)], None, whole=whole)
        return "".join([piece.text async for piece in guarded.pieces(written())])

    return asyncio.run(read())


@pytest.mark.parametrize(("whole", "times"), [(True, 200), (False, 1)])
def test_the_engine_begins_while_a_question_is_reviewed(whole: bool, times: int) -> None:
    begun = threading.Event()

    class Waiting(Guard):
        def review(self, answer: str, *read: Any, **more: Any) -> Report:
            assert answer != "" or begun.wait(10)
            return super().review(answer, *read, **more)

    guard = Waiting(ReviewSettings())
    question = "What helps? " * times
    assert said_of(guard, question, whole=whole, begin=begun.set) == "Rest."


def test_a_short_question_is_reviewed_with_its_whole_answer_alone() -> None:
    reviewed = list[str]()

    class Telling(Guard):
        def review(self, answer: str, *read: Any, **more: Any) -> Report:
            reviewed.append(answer)
            return super().review(answer, *read, **more)

    guard = Telling(ReviewSettings())
    reviewed.clear()  # it tries itself once
    assert said_of(guard, "What helps?", whole=True, begin=lambda: None) == "Rest."
    assert reviewed == ["Rest."]


@pytest.mark.parametrize("shift", range(11))
def test_no_number_is_cut_where_there_is_no_space(shift: int) -> None:
    held, whole = HeldAnswer(), '{"' + "d" * shift + '":[' + '{"mg":5.25},' * 20
    for character in whole:
        held.take(Piece(character, 1))
        if (end := held.ready) > held.out:
            assert not re.search(r"[\d.]$", whole[:end]) or not re.match(r"[\d.]", whole[end:])
            held.release(end)
    assert held.out > len(whole) / 2
