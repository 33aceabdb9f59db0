"""Where the disk takes no line of the audit log, nothing is done that it should tell of."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.own_key import own_key, own_key_path
from medllm.engines.fake import FakeEngine
from medllm.errors import SetupError

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.feedback.store import FeedbackStore  # noqa: E402
from medllm.serve.metrics import Metrics  # noqa: E402

TURNS = [{"role": "user", "content": "Zebulon"}]
ALERT = {"vitals": {"pulse": 150}}


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Around]:
    """A server whose log is on a disk that takes nothing more."""
    log = open_log(tmp_path / "log", "m")
    (tmp_path / "log" / f"{datetime.now(UTC).date()}.jsonl").symlink_to("/dev/full")
    store = FeedbackStore(tmp_path / "feedback")
    yield Around(audit=log, metrics=Metrics(), feedback=store)
    store.close()
    with pytest.raises(OSError):
        log.close()


def send(around: Around, method: str, path: str, body: Any = None) -> Any:
    app = build_app(
        FakeEngine(), model_id="m", callers=Callers("key"), max_tokens=99, around=around
    )

    async def ask() -> Any:
        transport, headers = httpx.ASGITransport(app), {"Authorization": "Bearer key"}
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
            return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(ask())


def test_nothing_is_done_that_cannot_be_logged(
    around: Around, capfd: pytest.CaptureFixture[str]
) -> None:
    chat = "/v1/chat/completions"
    for method, path, body in (
        ("POST", chat, {"messages": TURNS}),
        ("POST", "/v1/completions", {"prompt": ["Zebulon"] * 2}),
        ("POST", "/generate", {"question": "Zebulon"}),
        ("POST", "/v1/alerts/explain", ALERT),
        ("GET", "/feedback", None),
        ("POST", "/v1/model/online", None),
    ):
        told = send(around, method, path, body)
        assert (told.status_code, told.json()["error"]["code"]) == (500, "audit_failed"), path
        assert "Zebulon" not in told.text
    events = send(around, "POST", chat, {"messages": TURNS, "stream": True}).text
    assert "audit_failed" in events and "[DONE]" not in events and '"stop"' not in events

    said = "".join(capfd.readouterr())
    assert "the audit log cannot be written" in said and "Zebulon" not in said


def test_the_numbers_tell_what_the_caller_got(around: Around) -> None:
    send(around, "POST", "/v1/chat/completions", {"messages": TURNS})

    assert around.metrics
    sample = around.metrics.registry.get_sample_value
    route = {"route": "/v1/chat/completions"}
    assert sample("medllm_answers_total", route | {"outcome": "500"}) == 1
    assert sample("medllm_answers_total", route | {"outcome": "stop"}) == 0


def test_a_model_is_taken_offline_all_the_same(around: Around) -> None:
    assert send(around, "POST", "/v1/model/offline").status_code == 500
    assert around.switch.is_offline
    assert send(around, "POST", "/v1/model/online").status_code == 500
    assert around.switch.is_offline


def test_a_key_of_digests_that_was_cut_off_is_none() -> None:
    key = own_key()
    path = own_key_path()
    assert len(key) == 32 and path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(key[:5])
    with pytest.raises(SetupError, match="is no key: it has 5 bytes of 32"):
        own_key()
