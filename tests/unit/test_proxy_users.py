"""A user whom a trusted proxy names needs no key; nobody else can name one."""

import asyncio
import json
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError
from medllm.serve.config import ServeConfig

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.audit.record import open_log  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.callers.keys import Caller, KeyRing  # noqa: E402
from medllm.serve.callers.proxy import Proxies  # noqa: E402
from medllm.serve.server import choose_callers  # noqa: E402

HEADER = "X-Forwarded-User"
PROXY = "10.20.0.5"
ALICE = [(HEADER, "alice@ward")]
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys.json")


def status(
    ring: KeyRing, address: str, headers: list[tuple[str, str]], path: str = "/v1/models",
    around: Around | None = None,
) -> int:  # fmt: skip
    proxies = Proxies(HEADER, (ip_network(f"{PROXY}/32"), ip_network("fd00::/64")))
    callers = Callers(None, ring, ("https://notes.example",), proxies)
    app = build_app(FakeEngine(), model_id="m", callers=callers, max_tokens=9, around=around)

    async def ask() -> Any:
        transport = httpx.ASGITransport(app, client=(address, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://door.example") as client:
            if path == "/v1/models":
                return await client.get(path, headers=headers)
            return await client.post(path, json=CHAT, headers=headers)

    code: int = asyncio.run(ask()).status_code
    return code


@pytest.mark.parametrize("address", [PROXY, f"::ffff:{PROXY}", "fd00::7"])
def test_a_proxy_names_its_user(address: str, ring: KeyRing) -> None:
    assert status(ring, address, ALICE) == 200


@pytest.mark.parametrize(
    ("address", "headers", "wanted"),
    [
        ("10.20.0.6", ALICE, 401),
        ("127.0.0.1", ALICE, 401),
        ("", ALICE, 401),
        ("10.20.0.6", [*ALICE, ("X-Forwarded-For", PROXY), ("Forwarded", f"for={PROXY}")], 401),
        (PROXY, [], 401),
        (PROXY, [(HEADER, "")], 401),
        (PROXY, [*ALICE, (HEADER, "bob")], 401),
        (PROXY, [(HEADER, "a b")], 401),
        (PROXY, [(HEADER, "a" * 101)], 401),
        (PROXY, [*ALICE, ("Origin", "https://evil.example")], 403),
        (PROXY, [*ALICE, ("Origin", "null")], 403),
        (PROXY, [*ALICE, ("Origin", "https://door.example")], 200),
        (PROXY, [*ALICE, ("Origin", "https://notes.example")], 200),
    ],
)
def test_nobody_else_can_name_one(
    address: str, headers: list[tuple[str, str]], wanted: int, ring: KeyRing
) -> None:
    assert status(ring, address, headers) == wanted


def test_keys_hold_beside_it_and_a_user_is_no_admin(ring: KeyRing) -> None:
    key = ring.add(Caller(name="ward-3", role="admin"))
    with_key = [("Authorization", f"Bearer {key}")]

    assert status(ring, "10.20.0.6", with_key) == 200
    assert status(ring, "10.20.0.6", with_key, "/v1/model/offline") == 200
    assert status(ring, PROXY, [(HEADER, "ward-3")], "/v1/model/offline") == 403


def test_the_log_tells_the_user(ring: KeyRing, tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log", "m")) as audit:
        assert status(ring, PROXY, ALICE, "/v1/chat/completions", Around(audit)) == 200

    (path,) = (tmp_path / "log").glob("*.jsonl")
    assert json.loads(path.read_text().splitlines()[0])["caller"] == "user:alice@ward"


def test_with_a_proxy_no_fresh_key_is_made(ring: KeyRing) -> None:
    config = ServeConfig(user_header=HEADER, trusted_proxies=(PROXY,), host="0.0.0.0")
    callers = choose_callers(config, {}, ring)

    assert callers.api_key is None and callers.proxies and not callers.are_unnamed


@pytest.mark.parametrize(
    "settings",
    [
        {"user_header": HEADER},
        {"trusted_proxies": (PROXY,)},
        {"user_header": HEADER, "trusted_proxies": ("0.0.0.0/0",)},
        {"user_header": HEADER, "trusted_proxies": ("10.20.0.5/8",)},
        {"user_header": HEADER, "trusted_proxies": ("proxy.example",)},
        {"user_header": "Authorization", "trusted_proxies": (PROXY,)},
        {"user_header": "a b", "trusted_proxies": (PROXY,)},
        {"user_header": HEADER, "trusted_proxies": (PROXY,), "no_auth": True},
    ],
)
def test_what_would_believe_everybody_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ConfigError)):
        ServeConfig(**settings)
