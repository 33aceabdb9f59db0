"""A shadow, which nobody sees, and a canary, which answers the same keys each time, by name."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.settings import ReviewSettings
from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError
from medllm.recipe import load_recipe

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.callers.keys import Caller, KeyRing  # noqa: E402
from medllm.serve.guard import Guard  # noqa: E402
from medllm.serve.metrics import Metrics  # noqa: E402
from medllm.serve.model import shadow as comparing  # noqa: E402
from medllm.serve.model.canary import Canary  # noqa: E402
from medllm.serve.model.second import describe_second  # noqa: E402
from medllm.serve.model.shadow import Shadow, agreement  # noqa: E402

CHAT = "/v1/chat/completions"
QUESTION = "Which drug lowers Zebulon's fever?"
TURNS = [{"role": "user", "content": QUESTION}]


class Says(FakeEngine):
    """Answers the same words to everything, in two pieces, and remembers what it was asked."""

    def __init__(self, text: str) -> None:
        super().__init__(context_length=500)
        self.text, self.asked = text, list[GenerateRequest]()

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        self.asked.append(request)
        yield Piece(self.text[:3])
        yield Piece(self.text[3:])
        yield Piece("", 0, "stop")


def send(around: Around, *bodies: Any, engine: Any, key: str = "", path: str = CHAT) -> list[Any]:
    """The answers, after all comparisons were made."""
    callers = Callers(None, around_ring(around)) if key else Callers()
    app = build_app(engine, model_id="m", callers=callers, max_tokens=99, around=around)

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            got = [await client.post(path, json=each, headers=headers) for each in bodies]
            if around.shadow:
                await asyncio.gather(*around.shadow.tasks)
            return got

    return asyncio.run(ask())


RINGS: dict[int, KeyRing] = {}


def around_ring(around: Around) -> KeyRing:
    return RINGS[id(around)]


def shadowed(path: Path, shadow: Any, **more: Any) -> Around:
    around = Around(guard=Guard(ReviewSettings()), metrics=Metrics(), **more)
    around.shadow = Shadow(shadow, "next", path, around.guard, around.metrics)
    return around


def numbers(around: Around) -> str:
    from prometheus_client import generate_latest

    assert around.metrics
    return generate_latest(around.metrics.registry).decode()


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_is_asked_the_same_and_compared_without_a_word_kept(
    stream: bool, tmp_path: Path
) -> None:
    served, shadow = Says("Paracetamol lowers fever."), Says("Ibuprofen lowers fever.")
    around = shadowed(tmp_path / "log" / "shadow.jsonl", shadow)

    (told,) = send(around, {"messages": TURNS, "stream": stream, "max_tokens": 7}, engine=served)

    assert "profen" not in told.text and "acetamol lowers fever." in told.text
    assert shadow.asked[0].prompt == served.asked[0].prompt
    assert shadow.asked[0].sampling == served.asked[0].sampling
    text = (tmp_path / "log" / "shadow.jsonl").read_text()
    row = json.loads(text)
    assert (row["outcome"], row["agreement"], row["shadow"]) == ("differs", 0.6667, "next")
    assert row["only_served"] == row["only_shadow"] == []
    assert row["id"] in told.text and row["tokens"] == row["served_tokens"] == 2
    assert not any(word in text for word in ("Zebulon", "Ibuprofen", "Paracetamol"))
    assert (tmp_path / "log" / "shadow.jsonl").stat().st_mode & 0o777 == 0o600
    assert 'medllm_shadow_answers_total{outcome="differs"} 1.0' in numbers(around)
    assert "medllm_shadow_agreement_sum 0.6667" in numbers(around)


def test_what_the_review_finds_in_one_answer_alone_is_told(tmp_path: Path) -> None:
    wrong = Says("Take 10 g of paracetamol at once.")
    around = shadowed(tmp_path / "s.jsonl", wrong)

    send(around, {"messages": TURNS}, engine=Says("Drink enough water."))

    row = json.loads((tmp_path / "s.jsonl").read_text())
    assert row["only_shadow"] and not row["only_served"]
    assert row["risk_level"][1] > row["risk_level"][0] == 0
    assert f'medllm_shadow_findings_total{{of="shadow",rule="{row["only_shadow"][0]}"}} 1.0' in (
        numbers(around)
    )


def test_a_shadow_that_fails_or_is_asked_too_much_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Says):
        def generate(self, request: GenerateRequest) -> Iterator[Piece]:
            raise RuntimeError("no")

    around = shadowed(tmp_path / "s.jsonl", Fails("x"))
    (told,) = send(around, {"messages": TURNS}, engine=Says("Yes, it is."))
    assert told.status_code == 200
    monkeypatch.setattr(comparing, "MOST_WAITING", 0)
    send(around, {"messages": TURNS}, engine=Says("Yes, it is."))
    small = FakeEngine(context_length=10)
    monkeypatch.undo()
    around.shadow = Shadow(small, "small", tmp_path / "s.jsonl")
    (told,) = send(around, {"messages": TURNS}, engine=Says("Yes, it is."))
    assert told.status_code == 200

    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in rows] == ["failed", "left out", "failed"]
    assert [row.get("why") for row in rows] == [500, None, "refused"]


def test_agreement_is_of_words_in_order() -> None:
    assert agreement("a b c d", "a b c d") == 1
    assert agreement("a b", "c d") == 0
    assert agreement("a b c d", "a x c d") == pytest.approx(0.75)
    assert agreement("", "") == 1


def test_a_canary_answers_the_same_keys_each_time_and_its_share() -> None:
    canary = Canary(FakeEngine(), "next", "digest", 0.2)
    names = [f"ward-{number}" for number in range(2000)]
    taken = [name for name in names if canary.takes(name)]

    assert taken == [name for name in names if canary.takes(name)]
    assert 0.17 < len(taken) / len(names) < 0.23
    wider = Canary(FakeEngine(), "next", "digest", 0.5)
    assert all(map(wider.takes, taken))  # who was on trial stays on trial
    other = Canary(FakeEngine(), "next", "another", 0.2)
    assert taken != [name for name in names if other.takes(name)]


class Always(Canary):
    def takes(self, caller: str) -> bool:
        return caller == "ward-1"


def test_a_canary_is_named_in_the_answer_and_in_the_log(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    keys = [ring.add(Caller(name=f"ward-{number}")) for number in (1, 2)]
    around = Around(metrics=Metrics(), audit=open_log(tmp_path / "log", "m"))
    around.canary = Always(Says("From the next one."), "next", "digest", 0.5)
    RINGS[id(around)] = ring
    served = Says("From the served one.")

    named = {"messages": TURNS, "model": "m"}  # callers go on as they are used to
    (first,) = send(around, named, engine=served, key=keys[0])
    (second,) = send(around, named, engine=served, key=keys[1])
    (wrong,) = send(around, named | {"model": "x"}, engine=served, key=keys[0])
    (plain,) = send(around, {"question": "So?"}, engine=served, key=keys[0], path="/generate")
    assert around.audit
    around.audit.close()

    assert first.json()["model"] == "next" and "next one" in first.text
    assert second.json()["model"] == "m" and "served one" in second.text
    assert wrong.status_code == 404
    assert plain.headers["x-model"] == "next" and "next one" in plain.text
    (log,) = (tmp_path / "log").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line["model"] for line in lines if line["event"] == "answer"]
    assert told == ["next", "m", "next"]
    assert 'medllm_canary_answers_total{outcome="stop"} 2.0' in numbers(around)


def test_the_start_says_whom_a_canary_answers(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    for number in (1, 2, 3):
        ring.add(Caller(name=f"ward-{number}"))
    around = Around(canary=Always(FakeEngine(), "next", "digest", 0.5))
    section = load_recipe(None, (), {"serve.model": "m"}).section("serve")

    told = describe_second(section, "m", around, Callers(None, ring))

    assert told == "canary    next answers 1 of 3 keys"
    assert describe_second(section, "m", around, Callers("k")).endswith("answers 0 of 1 keys")
    assert describe_second(section, "m", Around(), Callers()) == ""


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shadow": "a", "canary": "b"}, "shadow and canary exclude each other"),
        ({"audit": "a", "no_audit": "true"}, "audit and no_audit exclude each other"),
        ({"feedback": "a", "no_feedback": "true"}, "feedback and no_feedback exclude each other"),
        ({"shadow_log": "a"}, "none is named as shadow"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_recipe(None, [f"serve.{name}={value}" for name, value in settings.items()])


@pytest.mark.parametrize(("share", "names"), [(1.0, ["m", "next"]), (0.0, ["m"])])
def test_a_canary_is_listed_with_its_card_for_those_whom_it_answers(
    share: float, names: list[str]
) -> None:
    canary = Canary(Says("No."), "next", "digest", share, {"identity": "digest"})
    around = Around(canary=canary, card={"identity": "served"})
    app = build_app(Says("Yes."), model_id="m", callers=Callers(), max_tokens=9, around=around)

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"messages": TURNS, "model": "next"}
            got = [await client.get(f"/v1/models{path}") for path in ("", "/next")]
            return [*got, await client.post(CHAT, json=body)]

    listed, described, answered = asyncio.run(ask())
    models = listed.json()["data"]
    assert [each["id"] for each in models] == names
    assert models[0]["card"] == {"identity": "served"}
    expected = 200 if share else 404
    assert (described.status_code, answered.status_code) == (expected, expected)
    if share:
        assert described.json() == models[1] and models[1]["card"] == {"identity": "digest"}
        assert models[1]["max_model_len"] == 500
