import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from medllm.errors import ConfigError
from medllm.serve.callers import keys
from medllm.serve.callers.keys import Caller, KeyRing, build_caller
from medllm.serve.callers.limits import Limits
from medllm.serve.wire import ApiError


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "state" / "keys.json")


def test_nothing_is_kept_of_a_key_but_a_digest_and_only_for_its_owner(ring: KeyRing) -> None:
    secret = ring.add(Caller(name="ward-3", role="admin", concurrent=2), "2999-12-31")

    assert secret not in ring.path.read_text() and len(secret) > 40
    assert ring.path.stat().st_mode & 0o777 == 0o600
    assert ring.path.parent.stat().st_mode & 0o777 == 0o700
    caller = KeyRing(ring.path).find(secret)
    assert caller and (caller.name, caller.role, caller.concurrent) == ("ward-3", "admin", 2)
    assert ring.find(secret + "x") is ring.find("") is ring.find("\udcff") is None


def test_a_key_holds_to_the_end_of_its_last_day(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = ring.add(Caller(name="a"), "2999-12-30")

    for day, holds in ((date(2999, 12, 30), True), (date(2999, 12, 31), False)):
        monkeypatch.setattr(keys, "today", lambda day=day: day)
        assert bool(ring.find(secret)) is holds


def test_another_process_adds_and_revokes(ring: KeyRing) -> None:
    first = ring.add(Caller(name="a"))
    other = KeyRing(ring.path)
    second = other.add(Caller(name="b"))
    assert ring.find(first) and ring.find(second)

    other.revoke("a")

    assert not ring.find(first) and ring.find(second)
    assert [key.name for key in ring.all_keys()] == ["b"]


def test_of_many_that_are_added_at_once_none_is_lost(ring: KeyRing) -> None:
    def add(name: str) -> str:
        return KeyRing(ring.path).add(Caller(name=name))

    names = [f"ward-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(add, names))

    assert sorted(key.name for key in ring.all_keys()) == sorted(names)
    assert all(ring.find(secret) for secret in secrets)
    assert (ring.path.parent / keys.LOCK).stat().st_mode & 0o777 == 0o600


def test_wrong_names_days_and_roles_are_refused(ring: KeyRing) -> None:
    ring.add(Caller(name="ward-3"))
    with pytest.raises(ConfigError, match="there is a key 'ward-3' already"):
        ring.add(Caller(name="ward-3"))
    with pytest.raises(ConfigError, match="letters, digits"):
        ring.add(Caller(name="ward 3"))
    with pytest.raises(ConfigError, match="no day: 'soon'"):
        ring.add(Caller(name="a"), "soon")
    with pytest.raises(ConfigError, match="2001-01-01 is past"):
        ring.add(Caller(name="a"), "2001-01-01")
    with pytest.raises(ConfigError) as raised:
        ring.revoke("ward-4")
    assert "did you mean 'ward-3'?" in raised.value.fix
    with pytest.raises(ConfigError, match="no role: 'root'"):
        build_caller("a", "root", None, None, None)
    with pytest.raises(ConfigError, match="concurrent must be above 0"):
        build_caller("a", None, None, None, 0)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"keys": [{"name": "a"}]}', '{"keys": 3}', '{"keys": ' + "[" * 100_000],
)
def test_a_file_that_is_none_of_keys_lets_nobody_in(content: str, ring: KeyRing) -> None:
    ring.path.parent.mkdir()
    ring.path.write_text(content)

    with pytest.raises(ConfigError, match="cannot be read as a file of keys"):
        ring.find("x")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path)])
def test_a_path_that_is_no_file_lets_nobody_in(make: Callable[[Path], None], ring: KeyRing) -> None:
    ring.path.parent.mkdir()
    make(ring.path)

    for ask in (partial(ring.find, "x"), ring.all_keys, partial(ring.add, Caller(name="a"))):
        with pytest.raises(ConfigError, match="cannot be read as a file of keys") as raised:
            ask()
        assert raised.value.message.count(str(ring.path)) == 1


def test_a_day_that_is_none_is_found_when_the_file_is_read(ring: KeyRing) -> None:
    ring.add(Caller(name="a"), "2999-12-31")
    rows = json.loads(ring.path.read_text())
    rows["keys"][0]["expires"] = "31.12.2999"
    ring.path.write_text(json.dumps(rows))

    with pytest.raises(ConfigError, match="cannot be read as a file of keys"):
        KeyRing(ring.path).all_keys()


@pytest.mark.parametrize("field", ["name", "digest"])
def test_what_stands_twice_is_found_when_the_file_is_read(field: str, ring: KeyRing) -> None:
    ring.add(Caller(name="a"))
    ring.add(Caller(name="b", role="admin"))
    rows = json.loads(ring.path.read_text())
    rows["keys"][1][field] = rows["keys"][0][field]
    ring.path.write_text(json.dumps(rows))

    with pytest.raises(ConfigError, match="a name or a digest stands twice"):
        KeyRing(ring.path).all_keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("requests_per_minute", "30"), ("concurrent", 0), ("role", "Admin")),
        *(("name", ["a"]), ("name", None), ("name", "a\nb")),
    ],
)
def test_a_limit_or_role_that_is_none_is_found_when_the_file_is_read(
    field: str, value: object, ring: KeyRing
) -> None:
    ring.add(Caller(name="a"))
    rows = json.loads(ring.path.read_text())
    rows["keys"][0][field] = value
    ring.path.write_text(json.dumps(rows))

    with pytest.raises(ConfigError, match="cannot be read as a file of keys"):
        KeyRing(ring.path).all_keys()


def test_a_file_that_anybody_can_write_lets_nobody_in(ring: KeyRing) -> None:
    secret = ring.add(Caller(name="a"))
    assert ring.find(secret)
    ring.path.chmod(0o666)

    with pytest.raises(ConfigError, match="can be written by anybody"):
        ring.find(secret)
    ring.path.chmod(0o640)
    assert ring.find(secret)


def refused(limits: Limits, caller: Caller) -> str | None:
    try:
        with limits.asking(caller):
            return None
    except ApiError as refusal:
        return refusal.headers["Retry-After"]


def test_requests_of_a_minute_are_counted_from_when_they_began() -> None:
    now = [0.0]
    limits, caller = Limits(lambda: now[0]), Caller(name="a", requests_per_minute=2)

    assert [refused(limits, caller), refused(limits, caller)] == [None, None]
    now[0] = 20.5
    assert refused(limits, caller) == "40"
    assert refused(limits, Caller(name="b", requests_per_minute=2)) is None
    now[0] = 60.0
    assert refused(limits, caller) is None


def test_requests_at_once_end_also_by_an_error() -> None:
    limits, caller = Limits(), Caller(name="a", concurrent=1)

    with pytest.raises(RuntimeError), limits.asking(caller):
        assert refused(limits, caller) == "1"
        raise RuntimeError
    assert refused(limits, caller) is None


def test_tokens_of_a_day_are_counted_until_the_day_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, caller = Limits(), Caller(name="a", tokens_per_day=10)

    with limits.asking(caller):
        limits.count_tokens(caller.name, 10)
    assert refused(limits, caller) == "3600"
    monkeypatch.setattr(keys, "today", lambda: date(2999, 1, 1))
    assert refused(limits, caller) is None


@pytest.mark.parametrize("name", ["key", "anyone"])
def test_no_named_key_is_called_as_the_callers_without_one(ring: KeyRing, name: str) -> None:
    with pytest.raises(ConfigError, match=f"the audit log calls others '{name}'"):
        ring.add(Caller(name=name))


def test_a_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys.json")  # whoever opens it waits for ever

    with pytest.raises(ConfigError, match="no regular file"):
        KeyRing(tmp_path / "keys.json").all_keys()
