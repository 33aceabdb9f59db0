"""Criteria of people that a model at an address judges, and how far it agrees with people."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from echoing import Server, served
from fastapi.responses import JSONResponse, Response

from medllm.data.example import Example, Rejected
from medllm.data.registry.datasets import open_dataset
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.evaluate.kinds.base import Asking
from medllm.evaluate.kinds.studies.rubrics import Rubrics, read_verdict, score_rubric

CRITERIA = [("Says fever", 4, ["axis:accuracy"]), ("Says cough", 6, ["axis:completeness"]),
            ("Says nonsense", -5, ["axis:accuracy"])]  # fmt: skip


def row(number: int, asked: str) -> dict[str, Any]:
    return {
        "prompt_id": f"p{number}", "prompt": [{"role": "user", "content": asked}],
        "rubrics": [dict(zip(("criterion", "points", "tags"), each, strict=True))
                    for each in CRITERIA],
        "example_tags": ["theme:triage", "physician_agreed_category:x"],
        "ideal_completions_data": None, "canary": "healthbench:x",
    }  # fmt: skip


class Judge(Server):
    """Judges by whether the word of a criterion stands in the answer; of "sore" it cannot tell."""

    def _chat(self, prompt: str, usage: dict[str, int], *, streams: bool) -> Response:
        conversation, _, rest = prompt.partition("Criterion:\n")
        word = rest.split()[1]
        answer = conversation.rpartition("assistant: ")[2]
        met = str(word in answer).lower()
        told = f'```json\n{{"explanation": "so", "criteria_met": {met}}}\n```'
        told = "I cannot say." if "sore" in answer else told
        choice = {"message": {"role": "assistant", "content": told}, "finish_reason": "stop"}
        return JSONResponse({"choices": [choice], "usage": usage})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "healthbench").mkdir()
    rows = [row(1, "fever"), row(2, "fever cough"), row(3, "nonsense"), row(4, "sore"),
            {**row(5, "x"), "rubrics": []}]  # fmt: skip
    path = tmp_path / "healthbench/2025-05-07-06-14-12_oss_eval.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return tmp_path


def test_healthbench_is_read_with_its_criteria(data: Path) -> None:
    *found, last = open_dataset("healthbench", data_dir=data).examples()

    first = found[0]
    assert isinstance(first, Example) and first.id == "healthbench/p1"
    assert first.metadata["rubrics"][1] == ["Says cough", 6, ["axis:completeness"]]
    assert (first.metadata["theme"], first.completion) == ("triage", "")
    assert last == Rejected("healthbench/p5", "no criterion has positive points")


def test_answers_are_judged_criterion_by_criterion(data: Path) -> None:
    sheet = data / "sheet.csv"
    said = ("p1,1,yes", "p1,2,no", "p2,1,yes", "p2,2,no", "p3,3,yes")
    sheet.write_text("id,criterion,met\n" + "".join(f"healthbench/{each}\n" for each in said))
    judge = Judge()
    judge.most = 9000
    with served(judge) as url:
        config = EvaluateConfig(tasks=("healthbench",), data_dir=data, judge=f"{url}#org/theirs",
                                judge_sheet=sheet)  # fmt: skip
        task = Task("healthbench", config)
        assert task.decides["judge_asked"]
        asking = Asking(config, in_chat=True, what="test", spec=task.spec)
        records = list(Rubrics().score(FakeEngine(), task.items().examples, asking))
    score = Rubrics().summarize(records)

    assert [record["met"] for record in records] == [
        [True, False, False], [True, True, False], [False, False, True], [None] * 3,
    ]  # fmt: skip
    assert [record["rubric_score"] for record in records] == [0.4, 1.0, -0.5, None]
    assert (score["rubric_score"], score["rubric_score_items"]) == (pytest.approx(0.3), 3)
    assert score["unjudged"] == 0.25 and score["criteria"] == 12
    assert score["by_axis"]["completeness"]["completeness"] == pytest.approx(1 / 3)
    assert (score["judge_compared"], score["judge_alike"]) == (5, 0.8)
    assert score["judge_kappa"] == pytest.approx((0.8 - 0.56) / 0.44, abs=0.1)
    assert asking.notes["judge"]["served_as"] == "org/theirs"
    assert "fever" not in json.dumps([{**each, "id": ""} for each in records])


def test_what_a_judge_says_is_read_or_not() -> None:
    assert read_verdict('{"criteria_met": true}') is True
    assert read_verdict("criteria_met: False") is False
    assert read_verdict("{'explanation': 'so', 'criteria_met': True}") is True
    assert read_verdict('Here you are: **criteria_met**: "false".') is False
    assert read_verdict("whether criteria_met is true") is None
    assert read_verdict("yes") is None
    assert read_verdict('"criteria_met": true or "criteria_met": false') is None
    assert score_rubric([["a", -5, []]], [True]) is None


def test_without_a_judge_or_with_a_broken_sheet_nothing_is_asked(data: Path) -> None:
    with pytest.raises(ConfigError, match="none is named"):
        _ = Task("healthbench", EvaluateConfig(tasks=("healthbench",), data_dir=data)).decides
    (data / "sheet.csv").write_text("id,criterion,met\nhealthbench/p1,one,yes\n")
    config = EvaluateConfig(tasks=("healthbench",), data_dir=data, judge="http://127.0.0.1:9#x",
                            judge_sheet=data / "sheet.csv")  # fmt: skip
    with pytest.raises(DataError, match="row 1"):
        _ = Task("healthbench", config).decides
    rows = "answer_code,criterion,met\nA1,1,yes\nA1,2, YES \nA1,1,no\n"
    (data / "sheet.csv").write_text(rows)
    with pytest.raises(DataError, match="row 3: another row says the contrary"):
        _ = Task("healthbench", config).decides


def test_an_empty_sheet_is_written_and_read_back_filled(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    judge.most = 9000
    with served(judge) as url:
        config = EvaluateConfig(tasks=("healthbench",), data_dir=data, judge=f"{url}#org/theirs")
        task = Task("healthbench", config)
        items = task.items().examples

        def scored(shows_text: bool, **settings: Any) -> dict[str, Any]:
            asking = Asking(config.model_copy(update=settings), in_chat=True, what="test",
                            spec=task.spec, shows_text=shows_text,
                            written=data / "healthbench.answers.jsonl")  # fmt: skip
            records = list(Rubrics().score(FakeEngine(), items, asking))
            (data / "healthbench.answers.jsonl").unlink(missing_ok=True)
            return Rubrics().summarize(records)

        path = data / "healthbench.criteria.csv"
        scored(False)
        assert not path.exists() and "no sheet for people" in capfd.readouterr().err
        scored(True)
        assert path.stat().st_mode & 0o777 == 0o600
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
        filled = data / "anna.csv"
        with pytest.raises(DataError, match="nothing is filled in"):
            _ = Task("healthbench", config.model_copy(update={"judge_sheet": path})).decides

        for row in rows:
            said = "yes" if row["text"].split()[-1] in row["answer"] else "no"
            row["met"] = said if "sore" not in row["conversation"] else ""
        rows[0]["answer_code"] = "A0"
        _save(filled, rows)
        score = scored(True, judge_sheet=filled)

    assert len(rows) == 12 and {row["criterion"] for row in rows} == {"1", "2", "3"}
    assert "theirs" not in path.read_text() and set(rows[0]) >= {"text", "conversation", "comment"}
    skipped = "sore" in rows[0]["conversation"]
    assert score["judge_compared"] == (9 if skipped else 8) and score["judge_alike"] == 1.0
    assert ("1 verdict of anna.csv left out" in capfd.readouterr().err) is not skipped


def _save(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
