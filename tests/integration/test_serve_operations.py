"""What whoever runs a server sees and does: readiness, metrics, the switch, the queue."""

import re
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from served import interrupted_once_served

from medllm.clinical.policy import Policy
from medllm.clinical.review import review_answer
from medllm.clinical.settings import ReviewSettings
from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError, SetupError
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller, KeyRing
from medllm.serve.config import ServeConfig
from medllm.serve.guard import Guard
from medllm.serve.metrics import OF_VITALS, Metrics, told_on
from medllm.serve.server import bound_socket, running_server
from medllm.serve.tls import read_tls
from medllm.serve.verb import serve

BODY = {"model": "m", "prompt": "Zebulon Quackenbush has a fever", "max_tokens": 3}


class Held(FakeEngine):
    """Writes an answer when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.let = threading.Event(), threading.Event()

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        self.begun.set()
        assert self.let.wait(20)
        yield Piece("Yes")
        yield Piece("", 0, "stop")


@contextmanager
def served(
    around: Around, engine: FakeEngine | None = None, callers: Callers | None = None
) -> Iterator[httpx.Client]:
    app = build_app(
        engine or FakeEngine(), model_id="m", callers=callers or Callers(), max_tokens=99,
        around=around,
    )  # fmt: skip
    with running_server(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def free_port() -> int:
    with bound_socket("127.0.0.1", 0) as sock:
        return int(sock.getsockname()[1])


def numbers(text: str) -> dict[str, float]:
    found = re.findall(r"^(medllm_[^ ]+) ([0-9.e+-]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_the_model_is_taken_offline_by_an_admin_and_what_runs_is_finished(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    user, admin = ring.add(Caller(name="ward-3")), ring.add(Caller(name="ops", role="admin"))
    engine = Held()
    with served(Around(), engine, Callers(None, ring)) as client, ThreadPoolExecutor(1) as others:

        def post(path: str, key: str, **body: Any) -> httpx.Response:
            return client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

        assert post("/v1/model/offline", user).status_code == 403
        assert client.post("/v1/model/offline").status_code == 401
        running = others.submit(post, "/v1/completions", user, **BODY)
        assert engine.begun.wait(20)
        assert post("/v1/model/offline", admin).json() == {"online": False}
        refused = post("/v1/completions", user, **BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_offline")
        assert refused.headers["retry-after"]
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        engine.let.set()
        assert running.result().json()["choices"][0]["text"] == "Yes"
        assert post("/v1/model/online", admin).json() == {"online": True}
        assert client.get("/ready").json() == {"ready": True}
        assert post("/v1/completions", user, **BODY).status_code == 200


def test_the_queue_is_bounded() -> None:
    engine, metrics, port = Held(), Metrics(), free_port()
    around = Around(metrics=metrics, most_waiting=1)

    def running() -> float:
        return numbers(httpx.get(f"http://127.0.0.1:{port}/metrics").text)["medllm_requests"]

    with told_on(metrics, port), served(around, engine) as client, ThreadPoolExecutor(2) as others:
        asked = [others.submit(client.post, "/v1/completions", json=BODY) for _ in range(2)]
        while running() < 2:
            assert not any(each.done() for each in asked)
        refused = client.post("/v1/completions", json=BODY)
        assert refused.json()["error"]["code"] == "queue_full"
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        engine.let.set()
        assert [each.result().status_code for each in asked] == [200, 200]


def test_a_client_that_hangs_up_is_counted_as_one_that_left() -> None:
    engine, metrics = Held(), Metrics()
    with served(Around(metrics=metrics), engine) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/completions", json=BODY, timeout=0.3)
        labels = {"status": "499"}
        while not metrics.registry.get_sample_value("medllm_errors_total", labels):
            time.sleep(0.01)
        engine.let.set()

    of_route = {"route": "/v1/completions", "outcome": "left"}
    assert metrics.registry.get_sample_value("medllm_answers_total", of_route) == 1
    assert metrics.registry.get_sample_value("medllm_errors_total", {"status": "400"}) == 0


def test_what_may_come_is_told_before_it_does_so_that_the_first_one_raises_an_alert() -> None:
    told = Metrics().registry.get_sample_value
    for route in ("/v1/chat/completions", "/v1/completions", "/generate"):
        assert told("medllm_answers_total", {"route": route, "outcome": "500"}) == 0
    for status in ("401", "413", "429", "500", "503"):
        assert told("medllm_errors_total", {"status": status}) == 0
    for mark in range(1, 6):
        assert told("medllm_feedback_total", {"helpfulness": str(mark)}) == 0
    found = review_answer(
        "Pulse 130.", question="Pulse 80.", policy=Policy(action="annotate")
    ).report.findings
    assert {(each.rule, each.severity) for each in found} <= set(OF_VITALS)
    assert told("medllm_findings_total", {"rule": "vital.altered", "severity": "major"}) == 0


def test_a_burst_gets_as_many_places_as_there_are_and_each_is_free_again() -> None:
    engine, metrics, port = Held(), Metrics(), free_port()
    around = Around(metrics=metrics, most_waiting=2)

    def ask(number: int) -> int:
        body = {**BODY, "stream": bool(number % 2)}
        return client.post("/v1/completions", json=body).status_code

    def running() -> float:
        return numbers(httpx.get(f"http://127.0.0.1:{port}/metrics").text)["medllm_requests"]

    with told_on(metrics, port), served(around, engine) as client, ThreadPoolExecutor(24) as many:
        asked = [many.submit(ask, number) for number in range(24)]
        while sum(each.done() for each in asked) < 21:
            time.sleep(0.01)
        assert running() == 3
        engine.let.set()
        assert sorted(each.result() for each in asked) == [200] * 3 + [429] * 21
        with client.stream("POST", "/v1/completions", json={**BODY, "stream": True}) as left:
            assert left.status_code == 200
        while running():
            time.sleep(0.01)


def test_numbers_are_told_on_a_port_of_their_own_and_no_text() -> None:
    metrics, port = Metrics(), free_port()
    with told_on(metrics, port), served(Around(metrics=metrics)) as client:
        written = client.post("/v1/completions", json=BODY).json()["usage"]
        client.post("/v1/completions", json=BODY | {"stream": True})
        client.post("/v1/completions", json={"model": "m"})
        assert client.get("/metrics").status_code == 404
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text

    told = numbers(text)
    outcomes = [name for name in told if name.startswith("medllm_answers_total")]
    assert sum(told[name] for name in outcomes) == 2
    assert told['medllm_errors_total{status="400"}'] == 1
    assert told["medllm_answer_seconds_count"] == 2
    assert told["medllm_first_token_seconds_count"] == 2
    assert told['medllm_tokens_total{kind="prompt"}'] == 2 * written["prompt_tokens"]
    assert told["medllm_ready"] == 1 and told["medllm_requests"] == 0
    assert "Quackenbush" not in text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_the_first_token_is_that_of_the_model_though_a_review_holds_it_back() -> None:
    class Slow(Held):
        def generate(self, request: GenerateRequest) -> Iterator[Piece]:
            yield Piece("No. ")
            yield from super().generate(request)

    engine, metrics = Slow(), Metrics()
    around = Around(metrics=metrics, guard=Guard(ReviewSettings()))
    with served(around, engine) as client, ThreadPoolExecutor(1) as others:
        asked = others.submit(client.post, "/v1/completions", json=BODY)
        while not metrics.registry.get_sample_value("medllm_first_token_seconds_count"):
            time.sleep(0.01)
        assert metrics.registry.get_sample_value("medllm_answer_seconds_count") == 0
        engine.let.set()
        assert asked.result().status_code == 200


def test_a_port_for_numbers_that_is_taken_is_told() -> None:
    with bound_socket("127.0.0.1", 0) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        taken = pytest.raises(SetupError, match=f"cannot tell metrics on 127.0.0.1:{port}")
        with taken, told_on(Metrics(), port):
            pass


def test_the_verb_tells_them(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    port = free_port()

    def ask(url: str, printed: str) -> None:
        assert f"metrics   http://127.0.0.1:{port}/metrics" in printed
        assert "medllm_ready 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text

    config = ServeConfig(
        model="fake", no_auth=True, port=0, metrics_port=port, audit=tmp_path / "log"
    )
    with interrupted_once_served(capfd, ask), pytest.raises(KeyboardInterrupt):
        serve(config, FakeEngine())


def test_a_page_is_shown_without_a_key_and_asks_nobody_else(tmp_path: Path) -> None:
    with served(Around(has_page=True), callers=Callers("key")) as client:
        shell = {place: client.get(place) for place in ("/", "/ui/page.css", "/ui/page.js")}
        assert client.get("/v1/models").status_code == 401
        assert client.get("/ui/../app.py").status_code == client.get("/ui/x").status_code == 401
    for place, told in shell.items():
        assert told.status_code == 200, place
        policy = told.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "http:" not in told.text and "https:" not in told.text, place
        assert not re.search(r"<script(?! src)|style=| on[a-z]+=\"", told.text), place
    with served(Around()) as client:
        assert client.get("/").status_code == 404


def self_signed(folder: Path, days: float = 1) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, plain))
    secret = serialization.BestAvailableEncryption(b"x")
    (folder / "locked.pem").write_bytes(key.private_bytes(pem, form, secret))
    return folder / "cert.pem", folder / "key.pem"


def test_it_speaks_https(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)

    def ask(url: str, printed: str) -> None:
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        place = url.replace("127.0.0.1", "localhost")
        answer = httpx.post(f"{place}/completions", json=BODY | {"model": "fake"}, verify=trusted)
        assert answer.status_code == 200
        told = numbers(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        assert 86_000 < told["medllm_certificate_ends"] - time.time() <= 86_400

    port = free_port()
    config = ServeConfig(model="fake", no_auth=True, port=0, no_audit=True, metrics_port=port,
                         tls_certificate=certificate, tls_key=key)  # fmt: skip
    with interrupted_once_served(capfd, ask), pytest.raises(KeyboardInterrupt):
        serve(config, FakeEngine())


@pytest.mark.parametrize(
    ("days", "told"),
    [(-2, "the certificate ended on "), (29, "the certificate ends on "), (31, None)],
)
def test_a_certificate_that_ends_is_told(tmp_path: Path, days: float, told: str | None) -> None:
    tls = read_tls(*self_signed(tmp_path, days))
    assert tls and (tls.warning is None if told is None else told in str(tls.warning))


def test_files_that_are_no_certificate_and_key_are_named(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with pytest.raises(ConfigError, match="TLS needs serve.tls_key, too"):
        read_tls(certificate, None)
    for wrong in (certificate, tmp_path / "locked.pem"):
        with pytest.raises(SetupError, match="cannot be used for TLS"):
            read_tls(certificate, wrong)
    trusted = tmp_path / "trusted.pem"  # OpenSSL's own form, which tells no end
    trusted.write_text(certificate.read_text().replace(" CERTIFICATE", " TRUSTED CERTIFICATE"))
    with pytest.raises(SetupError, match="cannot be used for TLS"):
        read_tls(trusted, key)
    with pytest.raises(SetupError, match=r"/none.pem cannot be read for TLS: No such file"):
        read_tls(certificate, tmp_path / "none.pem")
    assert read_tls(None, None) is None
