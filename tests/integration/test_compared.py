"""Evaluate beside a baseline: item by item, and only what was asked alike."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from documented import read_result
from typed import Typed

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.cli.main import run_command
from medllm.data.example import Example, Message, read_jsonl, to_json, write_jsonl
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate

CASES = [
    Example(
        id=f"ward/{n}", dataset="ward", group=f"P{n // 2}", group_kind="patient",
        prompt=(Message("user", f"Is finding {n} new? Answer:"),), completion="",
        choices=("yes", "no"), target="yes" if n % 3 else "no",
        metadata={"sex": "female" if n % 4 < 2 else "male", "age": 20 + 3 * n, "note": "x" * 99},
    )
    for n in range(24)
]  # fmt: skip
"""Questions about patients, two of each."""


def write_ward(folder: Path, cases: Sequence[Example]) -> Path:
    folder.mkdir(parents=True)
    write_jsonl(folder / "test.jsonl", map(to_json, cases))
    return folder


@pytest.fixture
def ward(own_places: Path) -> Path:
    """A working folder with a task and rows of our own."""
    write_ward(own_places / "rows", CASES)
    (own_places / "tasks").mkdir()
    (own_places / "tasks/ward.yaml").write_text("kind: choices\n")
    return own_places


def score(ward: Path, models: Sequence[Path], name: str, **more: Any) -> Path:
    """The folder of an evaluation."""
    output = ward / name
    known = {"models": tuple(map(str, models)), "tasks": ("ward",), "task_dir": ward / "tasks"}
    known |= {"data": ward / "rows"}
    evaluate(EvaluateConfig(**{**known, "output": output, **more}))
    return output


def records_of(folder: Path) -> list[Path]:
    """The records of its models, in the order that they were named."""
    scores = Manifest.read(folder).results["scores"]
    return [folder / each["model"] / "ward.jsonl" for each in scores]


def analysis_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
    return found


def test_models_are_compared_item_by_item(ward: Path, tiny_model: Path, gemma: Path) -> None:
    folder = score(ward, [tiny_model, gemma], "both")
    tiny, other = ({r["id"]: r for r in read_jsonl(path)} for path in records_of(folder))

    (row,) = analysis_of(folder)["comparisons"]

    assert (row["baseline"], row["model"], row["items"], row["units"]) == (
        tiny_model.name, "gemma", 24, 12,
    )  # fmt: skip
    right = [{id for id, r in side.items() if r["answer"] == r["target"]} for side in (tiny, other)]
    assert (row["gained"], row["lost"]) == (len(right[1] - right[0]), len(right[0] - right[1]))
    assert row["test"] == "sign changes of whole groups", "two questions are of one patient"
    before = score(ward, [tiny_model], "before")
    after = score(ward, [gemma], "after", baseline=before, margin=0.5)
    (again,) = analysis_of(after)["comparisons"]
    assert {key: again[key] for key in row} == row
    assert again["verdict"] == "non-inferior"
    page = (after / "report.html").read_text(encoding="utf-8")
    assert "Paired, item by item" in page and page.count("<svg") >= 2
    assert "finding" not in page and "P1" not in page
    assert verify_artifact(after).manifest.kind == "evaluation"


def test_records_give_no_patient_and_no_text_away(ward: Path, tiny_model: Path) -> None:
    folder = score(ward, [tiny_model], "scored")

    (path,) = records_of(folder)
    first = next(iter(read_jsonl(path)))
    assert first["metadata"] == {"sex": "female", "age": 20}
    assert not re.search(r"P\d|finding|xxx", path.read_text(encoding="utf-8"))
    key = ward.parent / "settings" / "digest.key"
    assert key.stat().st_mode & 0o777 == 0o600
    digests = [record["prompt"] for record in read_jsonl(path)]
    assert len({*digests}) == 24
    key.unlink()
    other = score(ward, [tiny_model], "other key")
    assert not {*digests} & {record["prompt"] for record in read_jsonl(records_of(other)[0])}


def test_written_answers_are_compared_and_keep_their_texts_to_themselves(
    ward: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [replace(case, completion="secretly pneumonia") for case in CASES[:6]]
    write_ward(ward / "said", said)
    task = "kind: summaries\ngeneration: {max_tokens: 4}\n"
    (ward / "tasks/written.yaml").write_text(task)
    asked: dict[str, Any] = {
        "tasks": ("written",),
        "data": ward / "said",
        "encoder": str(ward / "tasks"),
    }

    before = score(ward, [tiny_model], "before", **asked)
    after = score(ward, [tiny_model], "after", **asked, baseline=before, show_text=True)

    (hidden,), (shown,) = (
        list(read_jsonl(folder / tiny_model.name / "written.jsonl"))[:1]
        for folder in (before, after)
    )
    assert "answer" not in hidden
    assert {name: shown[name] for name in hidden} == hidden
    assert shown["reference"] == "secretly pneumonia"
    (numbers,) = Manifest.read(before).results["scores"]
    assert "holds no encoder with weights as safetensors" in numbers["not_computed"]["bertscore"]
    assert numbers["generation"]["max_tokens"] == 4
    assert numbers["answers_cut"] + numbers["answers_empty"] <= numbers["items"] == 6
    assert numbers["reference_perplexity"] > 1
    assert numbers["reference_perplexity_low"] is None  # of three patients
    assert "secretly" not in (before / "report.html").read_text(encoding="utf-8")
    assert "secretly" in (after / "report.html").read_text(encoding="utf-8")
    (row,) = analysis_of(after)["comparisons"]
    assert (row["measure"], row["difference"]["value"]) == ("f1", 0)
    assert "bertscore is not computed" in capsys.readouterr().err


def test_what_was_asked_otherwise_is_refused_and_the_scores_stay(
    ward: Path, tiny_model: Path, typed: Typed
) -> None:
    before = score(ward, [tiny_model], "before")
    ask = ("evaluate", "--model", tiny_model, "--tasks", "ward", "--set", "task_dir=tasks")

    fewer = typed(*ask, "--data", "rows", "--limit", 9, "--baseline", before, "--output", "fewer")
    changed = [replace(each, prompt=(Message("user", "So?"),)) for each in CASES[:1]] + CASES[1:]
    write_ward(ward / "changed", changed)
    other = typed(*ask, "--data", "changed", "--baseline", before, "--output", "other")
    nowhere = typed(*ask, "--data", "rows", "--baseline", "nowhere", "--output", "none")
    task = typed("evaluate", "--model", tiny_model, "--data", "rows", "--tasks", "answers",
                 "--baseline", before, "--output", "none")  # fmt: skip

    for ended in (fewer, other, nowhere, task):
        assert ended.returncode == 4, ended.stderr
    assert "the items differ: 24 of the baseline, 9 here, 9 in common" in fewer.stderr
    assert "the prompts of 1 of 24 items differ" in other.stderr
    assert "no evaluation at" in nowhere.stderr and not Path("none").exists()
    assert "has scores on ward, on none of these tasks: answers" in task.stderr
    assert len(list(read_jsonl(records_of(Path("other"))[0]))) == 24


def test_samples_of_lm_eval_are_a_baseline(ward: Path, tiny_model: Path, typed: Typed) -> None:
    place = ward / "lm_eval" / "org__model"
    place.mkdir(parents=True)
    right = [n % 5 > 0 for n in range(24)]
    write_jsonl(
        place / "samples_my_ward_2026-01-02T03-04-05.678901.jsonl",
        map(sample, CASES[::-1], right[::-1], range(24)),
    )

    ended = typed("evaluate", "--model", tiny_model, "--tasks", "ward", "--set", "task_dir=tasks",
                  "--data", "rows", "--baseline", "lm_eval", "--output", "out",
                  "--set", "evaluate={num_fewshot: 0, encoder_layer: 2}")  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "evaluate: no task that is asked reads encoder_layer\n" in ended.stderr
    (row,) = analysis_of(Path("out"))["comparisons"]
    ours = [r["answer"] == r["target"] for r in read_jsonl(records_of(Path("out"))[0])]
    pairs = list(zip(right, ours, strict=True))
    assert (row["baseline"], row["before"]) == ("org__model", sum(right) / 24)
    assert (row["gained"], row["lost"]) == (pairs.count((False, True)), pairs.count((True, False)))
    assert "paired, item by item" in ended.stdout
    assert "org__model" in ended.stdout


def test_a_leaderboard_has_side_by_side_what_was_asked_alike(
    ward: Path, tiny_model: Path, gemma: Path, typed: Typed
) -> None:
    folders = [
        score(ward, [tiny_model], "one"), score(ward, [gemma], "two"),
        score(ward, [gemma], "few", limit=9),
    ]  # fmt: skip

    found = typed("evaluate", "--compare", *folders, "--output", "board", "--json")
    shown = typed("evaluate", "--compare", *folders)
    unknown = typed("evaluate", "--compare", ward / "rows")
    forgotten = typed("evaluate", folders[0])
    taken = typed("evaluate", "--compare", *folders, "--output", ward / "rows")

    assert (found.returncode, shown.returncode) == (0, 0), found.stderr + shown.stderr
    first, second = read_result(found.stdout, "evaluate --compare")["leaderboard"]
    assert (first["items"], second["items"]) == (24, 9)
    assert {row["model"] for row in first["rows"]} == {tiny_model.name, "gemma"}
    values = [row["value"] for row in first["rows"]]
    assert values == sorted(values, reverse=True)
    assert first["rows"][1]["beside_best"]["items"] == 24
    assert [row["evaluation"] for row in second["rows"]] == ["work/few"]
    assert "ward, accuracy, n = 9 (asked otherwise, 2" in shown.stdout
    page = Path("board/leaderboard.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "gemma" in page
    assert [each.returncode for each in (unknown, forgotten, taken)] == [4, 2, 4]
    assert "holds no result of medllm" in unknown.stderr


def test_subgroups_and_gates_are_of_the_same_items(
    ward: Path, tiny_model: Path, typed: Typed
) -> None:
    ask = ("evaluate", "--model", tiny_model, "--tasks", "ward", "--set", "task_dir=tasks",
           "--data", "rows", "--output", "out")  # fmt: skip
    (ward / "strict.yaml").write_text(
        "thresholds:\n- {figure: accuracy, worst: metadata.sex, min: 0.99}\n"
    )

    found = typed(*ask, "--by", "metadata.sex", "--by", "age")
    unknown = typed(*ask, "--by", "metadata.gender")
    failed = typed(*ask, "--gate", "strict.yaml", "--json")
    again = typed(*ask, "--gate", "strict.yaml")
    alone = [typed(*ask, "--gate", "release"), typed(*ask, "--margin", "0.02")]
    misspelt = typed(*ask, "--gate", "relase")

    assert (found.returncode, unknown.returncode, misspelt.returncode) == (0, 2, 2)
    assert "by subgroup" in found.stdout and "24 few" not in found.stdout
    assert "12 few" in found.stdout and "18 to below 40" in found.stdout
    assert "name one of: target, metadata.age, metadata.sex" in unknown.stderr
    assert failed.returncode == again.returncode == 6
    document = json.loads(failed.stdout)
    assert document["error"]["kind"] == "GateError"
    assert "ward accuracy of " in document["error"]["message"]
    values = {row["group"]: row["value"] for row in document["result"]["analysis"]["subgroups"]}
    right = [r["answer"] == r["target"] for r in read_jsonl(records_of(Path("out"))[0])]
    women = [each for each, case in zip(right, CASES, strict=True)
             if case.metadata["sex"] == "female"]  # fmt: skip
    assert values["female"] == sum(women) / 12
    outcome = json.loads(Path("out/gate.json").read_text(encoding="utf-8"))
    assert outcome["gate"]["name"].endswith("strict.yaml") and not outcome["passed"]
    for ended, what in zip(alone, ("the gate release", "a margin of 0.02"), strict=True):
        assert ended.returncode == 2 and f"error: {what} is for what" in ended.stderr


def sample(item: Example, right: bool, number: int) -> dict[str, Any]:
    """A line of `lm_eval --log_samples` 0.4.13."""
    (message,) = item.prompt
    arguments = {
        f"gen_args_{n}": {"arg_0": message.content, "arg_1": f" {choice}"}
        for n, choice in enumerate(item.choices)
    }
    return {"doc_id": number, "doc": {}, "target": "0", "arguments": arguments, "resps": [],
            "filtered_resps": [], "filter": "none", "metrics": ["acc"], "doc_hash": "",
            "prompt_hash": "", "target_hash": "", "acc": float(right)}  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--list", "--limit", "0"), "--limit: --list"),
        (("--compare", "a", "--by", "sex", "--model", "m"), "--model, --by: --compare"),
        (("--review-sheet", "a", "--accept-terms", "x"), "--accept-terms: --review-sheet"),
        (("--ratings", "a", "b", "--dry-run"), "--dry-run: --ratings"),
    ],
)
def test_flags_that_a_comparison_does_not_read_are_refused(
    capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert run_command(["evaluate", *flags]) == 2

    assert f"{said} does not read it" in capfd.readouterr().err
