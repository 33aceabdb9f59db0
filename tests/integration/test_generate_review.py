"""`generate --review`: what clinical rules find stands beside each answer."""

import json
from pathlib import Path
from typing import Any

from documented import read_result
from typed import Typed

STROKE = "my face droops and my speech is slurred"
SHORT = ("--max-tokens", "4")


def rows(folder: str) -> list[dict[str, Any]]:
    lines = Path(folder, "generations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write(*asked: dict[str, Any]) -> str:
    Path("asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return "asked.jsonl"


def test_findings_stand_in_the_rows_and_are_counted(typed: Typed) -> None:
    source = write({"question": STROKE}, {"question": "What is sepsis?", "context": {"age": 70}})

    ended = typed("generate", "--input", source, "--output", "out", "--review", *SHORT)

    assert ended.returncode == 0, ended.stderr
    first, second = rows("out")
    assert first["review"]["risk_level"] == 2 and second["review"]["risk_level"] == 0
    assert STROKE not in json.dumps(first["review"])
    told = json.loads(Path("out/medllm.json").read_text())["results"]["review"]
    assert told["risk_levels"] == {"0": 1, "1": 0, "2": 1, "3": 0}
    assert (told["patient_contexts"], told["policy"]["action"]) == (1, "annotate")
    assert "1 of risk level 2" in ended.stdout and "red_flag.stroke" in ended.stdout
    assert "droops" not in ended.stdout + ended.stderr


def test_a_policy_of_the_recipe_stays_with_the_flag(typed: Typed) -> None:
    source = write({"question": STROKE})
    policy = ("--set", "generate.review.policy=append", "--set", "generate.review.region=uk")

    typed("generate", "--input", source, "--output", "out", "--review", *policy, *SHORT)

    assert rows("out")[0]["answer"].startswith("These may be signs of a stroke. Call 999 at once")


def test_an_answer_on_the_screen_has_its_findings_below(typed: Typed) -> None:
    ended = typed("generate", "--prompt", STROKE, "--review", *SHORT)
    document = typed("generate", "--prompt", STROKE, "--review", *SHORT, "--json")

    assert "major: The question describes possible signs of a stroke" in ended.stderr
    assert read_result(document.stdout, "generate --prompt")["review"]["risk_level"] == 2


def test_a_wrong_context_is_told_before_a_model_answers(typed: Typed) -> None:
    source = write({"question": "x", "context": {"alergies": ["penicillin"]}})

    ended = typed("generate", "--input", source, "--output", "out", "--review", *SHORT)

    assert ended.returncode == 3
    assert "row 1: patient context: unknown key 'alergies'; " not in ended.stdout
    assert "row 1: patient context: unknown key 'alergies'" in ended.stderr
    wrong = typed("generate", "--input", source, "--set", "generate.review.context=contxt")
    assert wrong.returncode == 3 and "no row has the column 'contxt'" in wrong.stderr
    assert "did you mean 'context'?" in wrong.stderr and not Path("out").exists()
    wrong = typed("generate", "--input", source, "--set", "generate.review.rules=nowhere")
    assert wrong.returncode == 2 and "no such folder of rules" in wrong.stderr


def test_a_passage_is_no_patient_and_that_is_said(typed: Typed) -> None:
    source = write({"question": "What is it?", "context": "A passage."})

    ended = typed("generate", "--input", source, "--output", "out", "--review", *SHORT)

    assert "holds text, no patient context" in ended.stderr
    told = json.loads(Path("out/medllm.json").read_text())["results"]["review"]
    assert (told["patient_contexts"], told["passages_in_their_column"]) == (0, 1)
