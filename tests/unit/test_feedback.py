"""Feedback is tied to an answer, kept apart from the audit log, and a dataset for `prepare`."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.settings import ReviewSettings
from medllm.data.example import read_jsonl
from medllm.data.split import SplitConfig
from medllm.engines.fake import FakeEngine
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.callers.keys import Caller, KeyRing  # noqa: E402
from medllm.serve.feedback.store import FeedbackStore  # noqa: E402
from medllm.serve.guard import Guard  # noqa: E402

QUESTION = {"role": "user", "content": "What helps against thirst?"}
ANSWER = "You said: What helps against thirst?"


class Door:
    """A server in this process, its audit log and its feedback."""

    def __init__(self, folder: Path) -> None:
        ring = KeyRing(folder / "keys.json")
        names = (("ward", "user"), ("other", "user"), ("ops", "admin"))
        self.keys = {name: ring.add(Caller(name=name, role=role)) for name, role in names}  # type: ignore[arg-type]
        self.audit, self.store = open_log(folder / "audit", "m"), FeedbackStore(folder / "feedback")
        guard = Guard(ReviewSettings())
        around = Around(audit=self.audit, feedback=self.store, guard=guard, may_skip_review=True)
        callers = Callers(None, ring)
        self._app = build_app(
            FakeEngine(), model_id="m", callers=callers, max_tokens=99, around=around
        )
        self.log = folder / "audit"

    def close(self) -> None:
        self.audit.close()
        self.store.close()

    def send(self, method: str, path: str, body: Any = None, key: str = "ward") -> Any:
        async def ask() -> Any:
            transport, headers = (
                httpx.ASGITransport(self._app),
                {"Authorization": f"Bearer {self.keys[key]}"},
            )
            async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
                return await client.request(method, path, json=body, headers=headers)

        return asyncio.run(ask())

    def ask(self, question: dict[str, str] = QUESTION, **more: Any) -> str:
        answer = self.send("POST", "/v1/chat/completions", {"messages": [question], **more})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def rate(self, id: str, key: str = "ward", **said: Any) -> Any:
        return self.send("POST", "/feedback", {"response_id": id, "helpfulness": 4} | said, key)

    def export(self) -> list[dict[str, Any]]:
        told = self.send("GET", "/feedback", key="ops")
        assert told.status_code == 200
        return [json.loads(line) for line in told.text.splitlines()]


@pytest.fixture
def door(tmp_path: Path) -> Any:
    with closing(Door(tmp_path)) as door:
        yield door


def with_texts(**more: Any) -> dict[str, Any]:
    return {"messages": [QUESTION], "answer": ANSWER, **more}


def test_marks_alone_are_kept_without_a_word_of_the_answer(door: Door) -> None:
    assert door.rate(door.ask(), comment="Not for Mr. Zebulon.").json()["kept"]
    (line,) = door.store.lines()
    assert (line["helpfulness"], line["caller"], line["model"]) == (4, "ward", "m")
    assert ANSWER not in door.store.path.read_text() and door.store.path.stat().st_mode & 0o77 == 0
    assert door.export() == []
    logged = "".join(path.read_text() for path in door.log.glob("*.jsonl"))
    assert '"event": "feedback"' in logged and "Zebulon" not in logged


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"helpfulness": 0}, "helpfulness"),
        ({"helpfulness": 6}, "helpfulness"),
        ({"helpfulness": "5"}, "helpfulness"),
        ({"accuracy": 0}, "accuracy"),
        ({"response_id": "chatcmpl-none"}, "response_id"),
        ({"comment": ""}, "comment"),
        ({"comment": "x" * 8001}, "comment"),
        ({"stars": 5}, "stars"),
        ({"messages": [QUESTION]}, "messages"),
        ({"answer": "Rest."}, "answer"),
        ({"correction": "Water."}, "correction"),
        (with_texts(answer="Brandy."), "answer"),
        (with_texts(messages=[QUESTION | {"content": "What else?"}]), "messages"),
    ],
)
def test_what_does_not_belong_to_the_answer_is_refused(
    door: Door, said: dict[str, Any], param: str
) -> None:
    refused = door.rate(door.ask(), **said)
    assert refused.status_code == (404 if param == "response_id" else 400)
    assert refused.json()["error"]["param"] == param
    assert list(door.store.lines()) == []


def test_nobody_rates_the_answer_of_another_and_admins_alone_read(door: Door) -> None:
    assert door.rate(door.ask(), key="other").status_code == 404
    assert door.send("GET", "/feedback").status_code == 403


def test_what_may_be_trained_on_goes_through_prepare(door: Door, tmp_path: Path) -> None:
    thirst, corrected, doubtful = door.ask(), door.ask(), door.ask()
    door.rate(thirst, helpfulness=5, accuracy=2, **with_texts())
    door.rate(thirst, helpfulness=5, accuracy=5, comment="Good.", **with_texts())  # it counts
    door.rate(corrected, helpfulness=1, accuracy=1, **with_texts(correction="Water helps."))
    door.rate(doubtful, helpfulness=5, **with_texts())  # nobody said that it is right
    door.rate(door.ask(review=False), helpfulness=5, accuracy=5, **with_texts())  # not reviewed
    rows = door.export()
    assert [row["is_correction"] for row in rows] == [False, True]
    assert [row["messages"][-1]["content"] for row in rows] == [ANSWER, "Water helps."]

    data = tmp_path / "feedback.jsonl"
    data.write_text(door.send("GET", "/feedback", key="ops").text)
    everything = SplitConfig(validation=0, test=0)  # by ids, which are drawn
    config = PrepareConfig(datasets=(str(data),), output=tmp_path / "out", split=everything)
    manifest = prepare(config)
    assert manifest.counts and manifest.counts.rejected == {}
    kept = list(read_jsonl(tmp_path / "out" / "train.jsonl"))
    assert {row["completion"] for row in kept} == {ANSWER, "Water helps."}
    assert all(row["metadata"]["rated_by"] == "ward" for row in kept)


def test_an_answer_in_which_something_was_found_is_not_trained_on(door: Door) -> None:
    bad = {"role": "user", "content": "Take warfarin 5 mg and ibuprofen 400 mg daily."}
    said = {"messages": [bad], "answer": f"You said: {bad['content']}"}
    assert door.rate(door.ask(bad), helpfulness=5, accuracy=5, **said).json()["kept"]
    assert door.export() == []


def test_what_a_killed_server_left_of_a_line_is_cut_off(tmp_path: Path) -> None:
    with closing(FeedbackStore(tmp_path)) as store:
        store.add({"id": "a"})
        store.path.write_text(store.path.read_text() + '{"id": "b')
    with closing(FeedbackStore(tmp_path)) as store:
        store.add({"id": "c"})
        assert [row["id"] for row in store.lines()] == ["a", "c"]
