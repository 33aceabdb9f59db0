"""An engine has the abilities that it has; whoever needs another one is told so."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Message
from medllm.engines.base import (
    Expects,
    GenerateRequest,
    Generates,
    GeneratesBatches,
    Piece,
    Sampling,
    Scores,
    require,
)
from medllm.engines.fake import FakeEngine
from medllm.engines.prompts import ask_messages, ask_text, takes_messages
from medllm.errors import ConfigError, DataError
from medllm.models.chat.prompts import UnfitPrompt
from medllm.models.chat.template import Template
from medllm.serve.callers.callers import Callers

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
build_app = pytest.importorskip("medllm.serve.app").build_app

QUESTION = Message("user", "Fieber?")
SAMPLING = Sampling(max_tokens=9)


class Remote:
    """Answers elsewhere: it writes, and knows neither token ids nor likelihoods."""

    name = "remote"
    context_length = 100
    unused_settings: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.asked: list[GenerateRequest] = []

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        self.asked.append(request)
        said = request.messages[-1].content if request.messages else str(request.prompt)
        yield Piece(f"Said: {said}, {len(request.images)}")
        yield Piece("", 0, "stop")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("ability", "needed"),
    [
        (Scores, "the likelihood of given tokens"),
        (Expects, "the likelihood of every token"),
        (Template, "token ids of texts"),
        (GeneratesBatches, "many answers at once"),
    ],
)
def test_who_lacks_an_ability_says_so_in_two_lines(ability: Any, needed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require(Remote(), ability, "evaluate")
    assert caught.value.message == f"evaluate needs {needed}, and the engine remote gives none"
    assert "a folder, a hub id or a .gguf file" in caught.value.fix


def test_an_engine_with_an_ability_is_given_as_it_is() -> None:
    remote, fake = Remote(), FakeEngine()
    assert require(remote, Generates, "serve") is remote
    for ability in (Generates, Scores, Expects, Template):
        assert require(fake, ability, "evaluate") is fake


def test_a_conversation_goes_as_token_ids_only_to_those_that_have_some() -> None:
    fake = FakeEngine()
    asked = ask_messages(fake, [QUESTION], SAMPLING)
    ids = fake.encode(fake.render([QUESTION]), add_special_tokens=False)
    assert (asked.prompt, asked.messages, asked.prompt_tokens) == (ids, (), len(ids))

    asked = ask_messages(Remote(), [QUESTION], SAMPLING)
    assert (asked.messages, asked.prompt_tokens) == ((QUESTION,), None)
    asked = ask_text(Remote(), "Fieber", SAMPLING)
    assert (asked.prompt, asked.prompt_tokens) == ("Fieber", None)
    assert takes_messages(Remote()) and not takes_messages(FakeEngine(has_chat_template=False))


def test_an_engine_with_token_ids_also_takes_messages_and_texts() -> None:
    def answer(request: GenerateRequest) -> str:
        return "".join(piece.text for piece in FakeEngine().generate(request))

    assert answer(GenerateRequest(messages=(QUESTION,))) == "You said: Fieber?"
    assert answer(GenerateRequest("Fieber")) == "You said: Fieber"


def test_images_reach_an_engine_or_are_refused() -> None:
    images = (Path("a.png"), Path("b.png"))
    for engine in (FakeEngine(), Remote()):
        asked = ask_messages(engine, [QUESTION], SAMPLING, images)
        assert (asked.messages, asked.images) == ((QUESTION,), images)
    (said, _) = Remote().generate(asked)
    assert said.text == "Said: Fieber?, 2"
    with pytest.raises(DataError, match="this engine reads no images, and the prompt has 2"):
        FakeEngine().generate(asked)


@pytest.mark.parametrize("engine", [FakeEngine(context_length=100), Remote()])
def test_what_fits_no_context_is_refused_unread(engine: Any) -> None:
    long = "x" * 3201
    for ask in (lambda: ask_messages(engine, [Message("user", long)], SAMPLING),
                lambda: ask_text(engine, long, SAMPLING)):  # fmt: skip
        with pytest.raises(UnfitPrompt, match="bytes, the context holds 100 tokens"):
            ask()


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "Said: Hi, 0"),
        ("completions", {"prompt": "Hi"}, "Said: Hi, 0"),
    ],
)
def test_an_engine_that_only_writes_can_be_served(
    path: str, asked: dict[str, Any], said: str
) -> None:
    engine = Remote()
    app = build_app(engine, model_id="m", callers=Callers(None), max_tokens=20)

    async def ask(body: dict[str, Any]) -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(f"/v1/{path}", json={"model": "m", **body})

    answer = asyncio.run(ask(asked)).json()
    choice = answer["choices"][0]
    assert said in (choice.get("text"), choice.get("message", {}).get("content"))
    assert (choice["finish_reason"], answer["usage"]) == ("stop", None)
    assert engine.asked[0].sampling.max_tokens == (20 if "messages" in asked else 16)
    streamed = asyncio.run(
        ask({**asked, "stream": True, "stream_options": {"include_usage": True}})
    )
    assert "Said: Hi" in streamed.text and streamed.text.endswith("data: [DONE]\n\n")
