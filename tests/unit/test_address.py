"""A model at an address: it writes, and where the server really tells likelihoods it scores."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse, Response

from medllm.data.example import Example, Message
from medllm.engines.base import (
    Expects,
    GenerateRequest,
    Generates,
    GeneratesBatches,
    Sampling,
    ScoreRequest,
    Scores,
)
from medllm.engines.open import engine_for, open_model
from medllm.errors import ConfigError, DataError, SetupError
from medllm.evaluate.config import EvaluateConfig, ModelChoice
from medllm.measures.likelihood import NotAsked, score_choices
from medllm.models.address import resolve_address
from medllm.models.load import resolve_model
from medllm.models.nf4 import check_nf4

pytest.importorskip("httpx")
echoing = pytest.importorskip("echoing")
Server, logprob_of, served = echoing.Server, echoing.logprob_of, echoing.served


Opened = Callable[..., Any]


def asking(text: str) -> GenerateRequest:
    return GenerateRequest(sampling=Sampling(max_tokens=9), messages=(Message("user", text),))


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """Opens the model at an address; it is closed in the end."""
    with ExitStack() as stack:

        def open_address(url: str, name: str = "org/theirs") -> Any:
            return stack.enter_context(closing(open_model(resolve_address(f"{url}#{name}"))))

        yield open_address


def codes(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def likelihood_of(before: str, text: str) -> float:
    return sum(logprob_of(a, b) for a, b in zip(before[-1] + text, text, strict=False))


def test_it_writes_one_answer_or_many(opened: Opened) -> None:
    server = Server()
    with served(server) as url:
        engine = opened(url)
        pieces = list(engine.generate(asking("fever")))
        requests = [asking(text) for text in ("a", "b" * 1000, "c")]
        batch = dict(engine.generate_batch(requests))

    assert isinstance(engine, Generates) and isinstance(engine, GeneratesBatches)
    assert "".join(piece.text for piece in pieces) == "You said: fever"
    assert sum(piece.tokens for piece in pieces) == 7
    assert pieces[-1].finish_reason == "stop"
    assert (batch[0].text, batch[2].text, batch[0].tokens) == ("You said: a", "You said: c", 7)
    assert isinstance(batch[1], DataError) and "bbb" not in batch[1].message
    assert engine.asked == {"address": f"{url}/v1", "served_as": "org/theirs",
                            "left_machine": False}  # fmt: skip


def test_a_server_that_is_busy_is_asked_again(opened: Opened) -> None:
    server = Server()
    with served(server) as url:
        engine = opened(url)
        server.busy = 2
        assert [piece.text for _, piece in engine.generate_batch([asking("a")])] == ["You said: a"]
        assert len(server.asked) == 3
        server.busy = 99
        with pytest.raises(SetupError, match="does not answer as it should"):
            list(engine.generate_batch([asking("a")]))


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "a secret"}},
        {"choices": []},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"message": {"content": [{"text": "a"}]}, "finish_reason": "stop"}]},
    ],
)
def test_what_is_no_answer_is_no_crash(answer: dict[str, Any], opened: Opened) -> None:
    class Odd(Server):
        def _chat(self, prompt: str, usage: dict[str, int], *, streams: bool) -> Response:
            return JSONResponse(answer)

    with served(Odd()) as url, pytest.raises(SetupError, match="does not answer as it should"):
        list(opened(url).generate_batch([asking("a")]))


@pytest.mark.parametrize("shows_begin", [True, False])
def test_it_scores_what_follows_a_context(shows_begin: bool, opened: Opened) -> None:
    with served(Server(shows_begin=shows_begin)) as url:
        engine = engine_for(opened(url), Scores, "evaluate")
        assert isinstance(engine, Scores)
        first, second = engine.score(
            [ScoreRequest(codes("So?"), codes(" yes")), ScoreRequest(codes("So?"), codes(" no"))]
        )

    assert first.logprob == pytest.approx(likelihood_of("So?", " yes"))
    assert second.logprob == pytest.approx(likelihood_of("So?", " no"))
    assert (first.tokens, second.tokens) == (4, 3)
    assert engine.asked["likelihood"] == "echo" and engine.asked["n_ctx"] == 900


def test_a_choice_is_the_likeliest_and_what_is_refused_is_not_asked(opened: Opened) -> None:
    def item(name: str, prompt: str) -> Example:
        turns = (Message("user", prompt),)
        return Example(f"ward/{name}", "ward", name, turns, "yes", ("yes", "no"), "yes")

    with served(Server()) as url:
        engine = engine_for(opened(url), Scores, "evaluate")
        items = [item("1", "So?"), item("2", "x" * 1000), item("3", "And?")]
        one, two, three = score_choices(engine, items, chat=False, what="test")

    assert isinstance(two, NotAsked) and "refuses the request" in two.not_asked
    assert not isinstance(one, NotAsked) and not isinstance(three, NotAsked)
    expected = [likelihood_of("So?", " yes"), likelihood_of("So?", " no")]
    assert one.logprobs == pytest.approx(expected)
    assert one.answer == ("yes" if expected[0] >= expected[1] else "no")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"echo": False}, "does not give the prompt back"),
        ({"logprobs": [-1.0] * 37}, "does not depend on the prompt"),
        ({"logprobs": [1.0] * 37}, "no logarithm of a probability"),
        ({"logprobs": [-1.0, "x"]}, "could not convert"),
        ({"answer": {"usage": None}}, "does not count the prompt's tokens"),
        ({"answer": {"usage": {"prompt_tokens": 9}}}, "tells of"),
        ({"answer": {"choices": []}}, "out of range"),
    ],
)
def test_likelihoods_are_refused_where_they_are_none(
    fault: dict[str, Any], reason: str, opened: Opened
) -> None:
    with served(Server(**fault)) as url:
        engine = opened(url)
        with pytest.raises(ConfigError, match=f"gives no likelihood of text: .*{reason}"):
            engine_for(engine, Scores, "evaluate")
        assert engine_for(engine, Generates, "evaluate") is engine
        with pytest.raises(ConfigError, match="the likelihood of every token"):
            engine_for(engine, Expects, "evaluate")


def test_what_is_wrong_with_an_address_is_one_line(
    monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    with served(Server(key="theirs")) as url:
        with pytest.raises(SetupError, match=r"refuses the key \(401\)") as refused:
            opened(url)
        monkeypatch.setenv("MEDLLM_UPSTREAM_KEY", "theirs")
        with pytest.raises(ConfigError, match="has no model 'other'") as absent:
            opened(url, "other")
        assert opened(url).model == "org/theirs"
    with pytest.raises(SetupError, match="refused") as gone:
        opened("http://127.0.0.1:9")
    for raised in (refused, absent, gone):
        assert "\n" not in raised.value.message + raised.value.fix


def test_an_address_is_known_by_its_name_and_holds_no_key() -> None:
    one = resolve_address("http://me:secret@127.0.0.1:8000/v1#org/name@main")
    other = resolve_address("http://127.0.0.1:8000/v1#org/other")

    assert one.is_elsewhere and not one.is_gguf and not one.weight_bytes
    assert one.parent.path == "http://127.0.0.1:8000/v1#org/name@main"
    assert one.base.id == "org/name@main"
    assert one.parent.identity != other.parent.identity


def test_what_cannot_be_loaded_in_nf4_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "quantized").mkdir()
    config = {"quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "quantized/config.json").write_text(json.dumps(config))

    for model, reason in [
        (resolve_address("http://127.0.0.1:9#x"), "a model at an address"),
        (resolve_model(str(tmp_path / "m.gguf")), "a .gguf file"),
        (resolve_model(str(tmp_path / "quantized")), "quantized already"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            check_nf4(model)
    choice = ModelChoice(ref="runs/qlora", quantization="nf4")
    assert EvaluateConfig(models=(choice, "base")).models == (choice, "base")
