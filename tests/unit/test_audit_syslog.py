"""The copy of the audit log for a syslog server."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from medllm.errors import ConfigError, SetupError
from medllm.serve.audit import syslog as module
from medllm.serve.audit.chain import Chain, read_head
from medllm.serve.audit.signing import Signer
from medllm.serve.audit.syslog import Syslog
from medllm.serve.audit.verify import verify_log

RFC_5424 = re.compile(
    rb"<110>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 [!-~]{1,255} medllm \d+ ([!-~]+) "
    rb"- (\{.*\})"
)


@contextmanager
def datagrams(family: socket.AddressFamily, place: object) -> Iterator[Callable[[], bytes]]:
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind(place)  # type: ignore[arg-type]
        receiver.settimeout(10)
        yield lambda: receiver.recv(65536)


def write(tmp_path: Path, address: str, *events: str) -> None:
    copy = Syslog(address)
    signer = Signer(tmp_path / "signing.pem")
    log = Chain(tmp_path / "log", tmp_path / "log.head", signer, copy=copy.send)
    with closing(copy), closing(log):
        for event in events:
            log.append(event, {"caller": "ward-3", "text": "c2VhbGVk"})
        log.sync()


def check(messages: list[bytes], *events: bytes) -> None:
    for number, (message, event) in enumerate(zip(messages, events, strict=True), 1):
        found = RFC_5424.fullmatch(message)
        assert found and found[1] == event
        line = json.loads(found[2])
        assert (line["number"], line["caller"]) == (number, "ward-3")
        assert "text" not in line


def test_lines_go_to_a_socket_of_this_machine(tmp_path: Path) -> None:
    with datagrams(socket.AF_UNIX, str(tmp_path / "s")) as receive:
        write(tmp_path, f"unix:{tmp_path}/s", "start", "no answer")
        check([receive(), receive()], b"start", b"no-answer")
    assert verify_log(tmp_path / "log", read_head(tmp_path / "log.head")).faults == []


def test_lines_go_to_another_machine_as_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        write(tmp_path, f"udp://127.0.0.1:{receiver.getsockname()[1]}", "answer")
        check([receiver.recv(65536)], b"answer")


def read_counted(connection: socket.socket) -> bytes:
    """A message of RFC 6587 (3.4.1)."""
    length = b""
    while (byte := connection.recv(1)) != b" ":
        length += byte
    return connection.recv(int(length), socket.MSG_WAITALL)


def test_lines_go_over_a_connection_which_is_opened_anew_when_it_breaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        copy = Syslog(f"tcp://127.0.0.1:{port}")
        line = {"number": 1, "time": "2026-01-01T00:00:00.000+00:00", "event": "answer"}
        with server.accept()[0] as first:
            copy.send(line)
            assert json.loads(read_counted(first).split(b" - ")[1]) == line
        for _ in range(100):  # what is sent first after a break is lost without an error
            copy.send(line)
            server.settimeout(0.1)
            try:
                second = server.accept()[0]
                break
            except TimeoutError:
                continue
        with second:
            assert json.loads(read_counted(second).split(b" - ")[1]) == line
        copy.close()


def test_lines_that_cannot_be_sent_are_counted_and_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = {"number": 1, "time": "t", "event": "answer"}
    with datagrams(socket.AF_UNIX, str(tmp_path / "s")):
        copy = Syslog(f"unix:{tmp_path}/s")
    (tmp_path / "s").unlink()
    for _ in range(3):
        copy.send(line)
    for _ in range(500):
        if copy.lost == 3:
            break
        threading.Event().wait(0.01)
    with datagrams(socket.AF_UNIX, str(tmp_path / "s")) as receive:
        copy.send(line)
        assert b'"number": 1' in receive()
        copy.close()

    said = capfd.readouterr().err
    assert said.count("are not sent") == 1
    assert "is back; it lacks 3 lines" in said


def test_too_many_lines_that_wait_are_lost_and_not_kept_in_memory(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        copy = Syslog(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        line = {"number": 1, "time": "t", "event": "answer", "findings": ["x" * 1_000_000]}
        for _ in range(40):  # nobody reads
            copy.send(line)
        copy.close()

    assert "too many lines wait for it" in capfd.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "unix:", "udp://", "tcp://host:none", "http://host:514", "tcp://host:601/x"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a syslog server"):
        Syslog(address)


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be reached: No such file"):
        Syslog(f"unix:{tmp_path}/none")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SetupError, match="cannot be reached: Connection refused"):
        Syslog(f"tcp://127.0.0.1:{port}")
