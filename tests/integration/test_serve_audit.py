"""The audit log of a server that answers."""

import base64
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import interrupted_once_served
from typed import Typed

from medllm.artifacts.own_key import own_key
from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.errors import SetupError
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.audit.chain import day_files
from medllm.serve.audit.record import Keeping, open_log
from medllm.serve.audit.verify import verify_log
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller, KeyRing
from medllm.serve.config import ServeConfig
from medllm.serve.server import running_server
from medllm.serve.verb import serve

SECRET = "Zebulon Quackenbush has a fever"


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in day_files(folder) for line in path.read_text().splitlines()
    ]


@contextmanager
def served(
    folder: Path,
    engine: FakeEngine | None = None,
    callers: Callers | None = None,
    text_for: Path | None = None,
) -> Iterator[httpx.Client]:
    with closing(open_log(folder, "m", Keeping(text_for=text_for))) as audit:
        audit.begin({"name": "m"})
        app = build_app(
            engine or FakeEngine(), model_id="m", callers=callers or Callers(), max_tokens=99,
            around=Around(audit),
        )  # fmt: skip
        with running_server(app) as url, httpx.Client(base_url=f"{url}/v1/") as client:
            yield client


def chat(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": SECRET}]
    return {"model": "m", "messages": messages, "max_tokens": 5, **more}


def test_each_answer_has_a_line_and_no_text_is_in_it(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    key = ring.add(Caller(name="ward-3"))
    headers = {"Authorization": f"Bearer {key}"}
    with served(tmp_path / "log", callers=Callers(None, ring)) as client:
        whole = client.post("chat/completions", json=chat(), headers=headers).json()
        streamed = client.post("chat/completions", json=chat(stream=True), headers=headers).text
        client.post("completions", json={"model": "m", "prompt": SECRET}, headers=headers)

    start, first, second, third, stop = lines_of(tmp_path / "log")
    assert (start["event"], stop["event"]) == ("start", "stop")
    assert start["signature"] and stop["signature"]
    assert first["id"] == whole["id"]
    assert second["id"] in streamed
    assert first["caller"] == "ward-3"
    assert first["route"] == second["route"] == "/v1/chat/completions"
    assert first["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert first["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (first["prompt"], first["answer"]) == (second["prompt"], second["answer"])
    said = (SECRET, whole["choices"][0]["message"]["content"])
    digests = [hmac.new(own_key(), each.encode(), "sha256").hexdigest() for each in said]
    assert [first["prompt"], first["answer"]] == digests and third["prompt"] == first["prompt"]
    text = "".join(path.read_text() for path in day_files(tmp_path / "log"))
    answer = whole["choices"][0]["message"]["content"]
    assert "Quackenbush" not in text and answer not in text and key not in text
    assert verify_log(tmp_path / "log").faults == []


def test_texts_are_kept_for_who_has_the_secret_and_for_nobody_else(tmp_path: Path) -> None:
    pyrage = pytest.importorskip("pyrage")
    officer = pyrage.x25519.Identity.generate()
    keys = tmp_path / "recipients.txt"
    keys.write_text(f"{officer.to_public()}\n")
    with (
        served(tmp_path / "log", text_for=keys) as client,
        served(tmp_path / "broken", Broken(), text_for=keys) as failing,
    ):
        body = chat(patient_context={"age": 67})
        answer = client.post("chat/completions", json=body).json()["choices"][0]["message"]
        client.post("completions", json={"model": "m", "prompt": SECRET})
        assert failing.post("chat/completions", json=chat(stream=True)).is_success

    start, first, second, _ = lines_of(tmp_path / "log")
    (unfinished,) = (each for each in lines_of(tmp_path / "broken") if "text" in each)
    told = [
        json.loads(pyrage.decrypt(base64.b64decode(each["text"]), [officer]))
        for each in (first, second, unfinished)
    ]
    message = {"role": "user", "content": SECRET}
    assert told[0] == {
        "messages": [message],
        "patient_context": {"age": 67},
        "answer": answer["content"],
    }
    assert told[1]["prompt"] == SECRET
    assert told[2] == {"messages": [message], "answer": "A"}
    assert start["text_for"] == [str(officer.to_public())]
    for folder in ("log", "broken"):
        assert verify_log(tmp_path / folder).faults == []
        content = "".join(path.read_text() for path in day_files(tmp_path / folder))
        assert "Quackenbush" not in content and answer["content"] not in content


def test_a_server_with_a_wrong_key_for_texts_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("age1none\n")
    for name, said in (
        ("none", "no public key of age|pyrage"),
        ("missing", "cannot be read|pyrage"),
    ):
        config = ServeConfig(model="fake", no_auth=True, port=0, audit_text=tmp_path / name)
        with pytest.raises(SetupError, match=said):
            serve(config, FakeEngine())


class Slow(FakeEngine):
    """Writes a piece, then waits until the client has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = threading.Event()

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece("A")
        self.gone.wait(20)
        yield Piece("B")
        yield Piece("", 0, "stop")


def test_an_answer_that_nobody_waited_for_has_a_line_too(tmp_path: Path) -> None:
    engine = Slow()
    with served(tmp_path / "log", engine) as client:
        with client.stream("POST", "chat/completions", json=chat(stream=True)) as told:
            next(line for line in told.iter_lines() if '"A"' in line)
        for _ in range(200):
            lines = [each for each in lines_of(tmp_path / "log") if each["event"] == "no answer"]
            if lines:
                break
            threading.Event().wait(0.05)
        engine.gone.set()

    (line,) = lines
    assert line["why"] == "left" and "answer" not in line


class Broken(FakeEngine):
    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece("A")
        raise RuntimeError(SECRET)


def test_an_engine_that_fails_leaves_a_line(tmp_path: Path) -> None:
    with served(tmp_path / "log", Broken()) as client:
        assert client.post("chat/completions", json=chat()).status_code == 500

    assert [(each["event"], each.get("why")) for each in lines_of(tmp_path / "log")][1:-1] == [
        ("no answer", 500)
    ]


def test_an_answer_is_withheld_where_its_line_cannot_be_written(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log", "m")) as audit:
        audit.begin({"name": "m"})
        app = build_app(
            FakeEngine(), model_id="m", callers=Callers(), max_tokens=99, around=Around(audit)
        )

        def fail() -> None:
            raise OSError(28, "No space left on device")

        audit._chain.sync = fail  # type: ignore[method-assign]
        with running_server(app) as url:
            answer = httpx.post(f"{url}/v1/chat/completions", json=chat())
        del audit._chain.sync

    assert answer.status_code == 500
    assert "choices" not in answer.json()


def test_the_verb_keeps_a_log_that_the_command_line_checks(
    typed: Typed, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "log"

    def ask(url: str, printed: str) -> None:
        assert "audit     " in printed
        httpx.post(f"{url}/chat/completions", json=chat(model="fake"))

    with interrupted_once_served(capfd, ask), pytest.raises(KeyboardInterrupt):
        serve(ServeConfig(model="fake", no_auth=True, port=0, audit=folder), FakeEngine())

    ended = typed("audit", "verify", folder)
    assert ended.returncode == 0, ended.stderr
    assert "3 lines from line 1 on" in ended.stdout and "the log is whole" in ended.stdout
    file = day_files(folder)[0]
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    ended = typed("audit", "verify", folder)
    assert ended.returncode == 4
    assert "the end is missing: the head tells of 3 lines, and there are 2" in ended.stderr
    assert typed("audit", "verify", tmp_path).returncode == 4
    assert typed("audit", "verify", folder, "--head", tmp_path / "none").returncode == 4
