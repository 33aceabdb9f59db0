"""Answers are reviewed before they go out, whole and streamed; what fails withholds them."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medllm.clinical.review import review_answer
from medllm.clinical.settings import ReviewSettings
from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.serve import guard
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.audit.chain import day_files
from medllm.serve.audit.record import open_log
from medllm.serve.callers.callers import Callers
from medllm.serve.guard import Guard
from medllm.serve.metrics import Metrics
from medllm.serve.server import running_server

GOOD = "Drink enough. Rest for two days."
BAD = "Rest for two days. Take isotretinoin 20 mg daily. Then call."
MODERATE = "Take warfarin 5 mg and ibuprofen 400 mg daily. Then call."
CONTEXT = {"pregnant": True}
EMERGENCY = "Crushing chest pain is going down my left arm and I am sweating, what is it?"


class Says(FakeEngine):
    """Writes one answer, word by word."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.words = [f"{word} " for word in answer.split()]

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        for word in self.words:
            yield Piece(word)
        yield Piece("", 0, "stop")


@contextmanager
def served(answer: str, around: Around | None = None, **settings: Any) -> Iterator[httpx.Client]:
    around = around or Around()
    around.guard = Guard(ReviewSettings(**settings))
    app = build_app(Says(answer), model_id="m", callers=Callers(), max_tokens=99, around=around)
    with running_server(app) as url, httpx.Client(base_url=f"{url}/v1/", timeout=20) as client:
        yield client


def body(question: str = "What helps?", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "m", "messages": messages, "patient_context": CONTEXT, **more}


def whole(client: httpx.Client, asked: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    told = client.post("chat/completions", json=asked)
    assert told.status_code == 200, told.text
    choice = told.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], told.json()["safety_report"]


def streamed(client: httpx.Client, asked: dict[str, Any]) -> tuple[list[str], str, dict[str, Any]]:
    told = client.post("chat/completions", json=asked | {"stream": True}).text
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
    choices = [event["choices"][0] for event in events]
    texts = [choice["delta"].get("content", "") for choice in choices]
    last = events[-1]
    return [text for text in texts if text], choices[-1]["finish_reason"], last["safety_report"]


def kinds(report: dict[str, Any]) -> set[str]:
    return {each["kind"] for each in report["findings"]}


def test_a_report_comes_with_each_answer_and_changes_none_by_default() -> None:
    for answer, level in ((GOOD, 0), (BAD, 3)):
        with served(answer) as client:
            text, reason, report = whole(client, body())
            pieces, last, same = streamed(client, body())
        assert text.strip() == "".join(pieces).strip() == answer
        assert reason == last == "stop"
        assert report == same
        assert (report["risk_level"], bool(report["warnings"])) == (level, level > 0)
        assert len(pieces) > 5


def test_what_is_known_of_the_patient_is_heeded() -> None:
    with served(BAD) as client:
        _, _, without = whole(client, body(patient_context=None))
        _, _, with_context = whole(client, body())
        wrong = client.post("chat/completions", json=body(patient_context={"alergies": ["x"]}))
        no_mapping = client.post("chat/completions", json=body(patient_context="x"))

    assert "contraindication" in kinds(with_context)
    assert (without["risk_level"], with_context["risk_level"]) == (0, 3)
    assert wrong.status_code == 400 and "alergies" in wrong.json()["error"]["message"]
    assert wrong.json()["error"]["param"] == "patient_context"
    assert no_mapping.status_code == 400


def test_a_plain_question_gets_a_plain_answer() -> None:
    asked = {"question": "What helps?", "patient_context": CONTEXT, "max_length": 50}
    with served(BAD) as client:
        url = str(client.base_url).removesuffix("v1/") + "generate"
        told = client.post(url, json=asked).json()
        wrong = [
            client.post(url, json=asked | more)
            for more in ({"use_safety": False}, {"temprature": 1}, {"question": ""})
        ]

    assert told["response"].strip() == BAD
    assert told["safety_report"]["risk_level"] == 3 and told["safety_report"]["warnings"]
    assert told["mean_token_logprob"] is None and told["inference_time_ms"] >= 0
    assert [each.status_code for each in wrong] == [400, 400, 400]


def test_warnings_are_added() -> None:
    with served(BAD, policy="append") as client:
        text, _, report = whole(client, body())
        pieces, _, _ = streamed(client, body())

    assert text.startswith(BAD) and report["warnings"][0] in text
    assert " ".join("".join(pieces).split()) == " ".join(text.split())


@pytest.mark.parametrize("policy", ["append", "block"])
@pytest.mark.parametrize("answer", ["a", ".", "No.", GOOD, MODERATE, BAD])
def test_a_stream_says_what_the_whole_answer_says(policy: str, answer: str) -> None:
    with served(answer, policy=policy) as client:
        text, reason, _ = whole(client, body())
        pieces, last, _ = streamed(client, body())

    assert reason == last
    if reason == "stop":
        assert "".join(pieces).split() == text.split()


def test_what_to_do_in_an_emergency_comes_first() -> None:
    with served("It may be heartburn. Wait and see.", policy="append", region="uk") as client:
        text, _, report = whole(client, body(EMERGENCY))
        pieces, _, _ = streamed(client, body(EMERGENCY))

    assert report["risk_level"] == 3
    assert "999" in text.split("It may be")[0]
    assert "999" in pieces[0]


def test_a_bad_answer_is_withheld_whole_and_from_where_it_turns_bad() -> None:
    with served(BAD, policy="block") as client:
        text, reason, report = whole(client, body())
        pieces, last, _ = streamed(client, body())

    assert report["blocked"] and reason == last == "content_filter"
    assert "isotretinoin 20 mg" not in text and "withheld" in text
    assert pieces[0].strip() == "Rest for two days."
    assert "isotretinoin 20 mg" not in "".join(pieces) and "withheld" in pieces[-1]
    assert "Then call" not in "".join(pieces)


def test_a_good_answer_streams_by_sentences_where_bad_ones_are_withheld() -> None:
    answer = "Take 2.5 mg p.o. daily. Rest now. " + "and so on " * 60
    with served(answer, policy="block") as client:
        pieces, reason, _ = streamed(client, body())

    assert "".join(pieces).strip() == answer.strip()
    assert pieces[0] == "Take 2.5 mg p.o. daily."
    assert reason == "stop"
    assert max(len(piece.split()) for piece in pieces) <= 64


def test_what_is_released_in_need_ends_with_a_whole_word() -> None:
    class Letters(Says):
        def __init__(self, answer: str) -> None:
            super().__init__("")
            self.words = list(answer)

    answer = "and 500 mg " * 20
    around = Around(guard=Guard(ReviewSettings(policy="block")))
    app = build_app(Letters(answer), model_id="m", callers=Callers(), max_tokens=99, around=around)
    with running_server(app) as url, httpx.Client(base_url=f"{url}/v1/", timeout=20) as client:
        pieces, _, _ = streamed(client, body())

    assert "".join(pieces) == answer and len(pieces) > 2
    assert all(word in {"and", "500", "mg"} for piece in pieces for word in piece.split())


def test_help_that_comes_in_a_later_sentence_is_not_missed_in_a_stream() -> None:
    answer = "Chest pain can have many causes. Call an ambulance now, on 999."
    with served(answer, policy="block", block_from="major", block_unverified=True) as client:
        text, reason, _ = whole(client, body(EMERGENCY))
        pieces, last, _ = streamed(client, body(EMERGENCY))
    assert reason == last == "stop" and "many causes" in text and "many causes" in "".join(pieces)
    with served("Chest pain can have many causes. Rest.", policy="block", block_from="major",
                block_unverified=True) as client:  # fmt: skip
        assert whole(client, body(EMERGENCY))[1] == "content_filter"
        assert streamed(client, body(EMERGENCY))[1] == "content_filter"


def test_an_altered_number_that_spans_chunks_ends_a_stream() -> None:
    given = "BP 118/70, pulse 88. Summarise."
    answer = "She is stable. Her pulse is 1 2 8 now. Her pulse is 128 now. Rest."
    settings: dict[str, Any] = {"policy": "block", "block_from": "major", "block_unverified": True}
    with served(answer, **settings) as client:
        pieces, reason, report = streamed(client, body(given, patient_context=None))
    assert reason == "content_filter" and "128 now. Rest" not in "".join(pieces)
    assert [each["rule"] for each in report["findings"]] == ["vital.altered"]


def test_a_server_that_withholds_says_by_how_few_rules() -> None:
    assert Guard(ReviewSettings()).limit is None
    assert Guard(ReviewSettings(policy="block", block_unverified=True)).limit is None
    told = Guard(ReviewSettings(policy="block")).limit or ""
    pairs = [(int(may), int(of)) for may, of in re.findall(r"(\d+) of (\d+)", told)]
    assert len(pairs) == 4 and all(0 < may < of for may, of in pairs)

    overdose = "Take amitriptyline 2 g daily."  # a monograph's limit, which only warns
    with served(overdose, policy="block") as client:
        text, reason, report = whole(client, body())
    assert (reason, report["risk_level"]) == ("stop", 3) and report["warnings"][0] in text
    with served(overdose, policy="block", block_unverified=True) as client:
        assert whole(client, body())[1] == "content_filter"


def test_the_review_is_skipped_only_where_the_server_allows_it() -> None:
    with served(BAD) as client:
        refused = client.post("chat/completions", json=body(review=False))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "review")
        assert whole(client, body(review=True))[2]["risk_level"] == 3
    with served(BAD, Around(may_skip_review=True), policy="block") as client:
        told = client.post("chat/completions", json=body(review=False)).json()
        assert "safety_report" not in told
        assert told["choices"][0]["message"]["content"].strip() == BAD


def test_the_log_and_the_numbers_tell_the_rules_that_found_something(tmp_path: Path) -> None:
    metrics = Metrics()
    with closing(open_log(tmp_path / "log", "m")) as audit:
        audit.begin({"name": "m"})
        with served(BAD, Around(audit, metrics), policy="block") as client:
            _, _, report = whole(client, body())

    (path,) = day_files(tmp_path / "log")
    line = json.loads(path.read_text().splitlines()[1])
    assert line["findings"] == [each["rule"] for each in report["findings"]]
    assert line["blocked"] and line["finish_reason"] == "content_filter"
    assert metrics.registry.get_sample_value("medllm_blocked_answers_total") == 1
    worst = report["findings"][0]
    labels = {"rule": worst["rule"], "severity": worst["severity"]}
    assert metrics.registry.get_sample_value("medllm_findings_total", labels)


def test_what_was_asked_is_read_as_by_any_review() -> None:
    own = Guard(ReviewSettings())
    asked = "I take metho-\ntrexate 10 mg weekly."

    by_server = own.review("Take trimethoprim 200 mg.", own.read(asked), None)

    assert [each.rule for each in by_server.findings] == [
        each.rule
        for each in review_answer("Take trimethoprim 200 mg.", question=asked).report.findings
    ]
    assert any(each.kind == "interaction" for each in by_server.findings)


@pytest.mark.parametrize("short", [0, guard.SHORT], ids=["in a thread", "at once"])
@pytest.mark.parametrize("policy", ["annotate", "append", "block"])
def test_an_answer_that_cannot_be_reviewed_does_not_go_out_whole(
    policy: str,
    short: int,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "SHORT", short)

    def fail(answer: str, *given: object) -> Sequence[object]:
        if answer:
            raise ZeroDivisionError("Zebulon")
        return original(answer, *given)  # type: ignore[arg-type, return-value]

    around = Around()
    with closing(open_log(tmp_path / "log", "m")) as around.audit:
        around.audit.begin({"name": "m"})
        with served(GOOD, around, policy=policy) as client:
            assert around.guard
            original = around.guard.review
            around.guard.review = fail  # type: ignore[method-assign, assignment]
            told = client.post("chat/completions", json=body())
            events = client.post("chat/completions", json=body(stream=True)).text

    assert told.status_code == 500 and told.json()["error"]["code"] == "review_failed"
    assert "[DONE]" not in events and "review_failed" in events
    if policy == "block":
        assert "Drink" not in events
    assert "Zebulon" not in told.text + events + "".join(capfd.readouterr())
    lines = [json.loads(line) for line in day_files(tmp_path / "log")[0].read_text().splitlines()]
    assert [line["event"] for line in lines].count("no answer") == 2
