"""The group of medical questions on the tiny model: its tasks, its mean and how it was asked."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import read_jsonl
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate

OPTIONS = ("Aspirin", "Heparin", "Insulin", "Digoxin")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few questions of each dataset of the group."""
    root = tmp_path_factory.mktemp("questions")
    ids = sorted((Path(__file__).parents[2] / "medllm/data/catalog/pubmedqa_test_ids.txt")
                 .read_text().split())  # fmt: skip
    pubmedqa = {
        each: {"QUESTION": f"Is it {n}?", "CONTEXTS": ["It was seen."], "LONG_ANSWER": "It was.",
               "final_decision": ("yes", "no", "maybe")[n % 3]}
        for n, each in enumerate([*ids[:3], "1", "2"])
    }  # fmt: skip
    medmcqa = [
        {"id": f"q{n}", "question": f"Which lowers {n}?", "cop": n + 1, "subject_name": "Medicine",
         **dict(zip(("opa", "opb", "opc", "opd"), OPTIONS, strict=True))}
        for n in range(4)
    ]  # fmt: skip
    medqa = [
        {"question": f"What helps {n}?", "options": dict(zip("ABCD", OPTIONS, strict=True)),
         "answer_idx": "ABCD"[n]}
        for n in range(2)
    ]  # fmt: skip
    files = {
        "pubmedqa/ori_pqal.json": json.dumps(pubmedqa),
        "medmcqa/dev.json": "".join(json.dumps(row) + "\n" for row in medmcqa),
        "medmcqa/train.json": "".join(json.dumps({**row, "id": "t"}) + "\n" for row in medmcqa),
        "medqa/phrases_no_exclude_test.jsonl": "".join(json.dumps(row) + "\n" for row in medqa),
        "medqa/phrases_no_exclude_train.jsonl": "".join(json.dumps(row) + "\n" for row in medqa),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    (root / "mmlu_medical").mkdir()
    for name in ("anatomy_dev", "anatomy_test", "medical_genetics_dev", "medical_genetics_test"):
        with (root / f"mmlu_medical/{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[f"On {name} {n}:", *OPTIONS, n] for n in range(2)])
    return root


def scores_of(model: Path, data: Path, output: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    config = EvaluateConfig(
        models=(str(model),), tasks=("multimedqa",), data_dir=data, output=output, **settings
    )
    return {score["task"]: score for score in evaluate(config).results["scores"]}


def test_a_gguf_file_answers_the_same_questions_alike(
    tiny_model: Path, tiny_f16: Path, data: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        models=(str(tiny_model), str(tiny_f16)), tasks=("mmlu_medical", "pubmedqa"), num_fewshot=1,
        data_dir=data, output=tmp_path / "out", n_ctx=512,
    )  # fmt: skip

    scores = evaluate(config).results["scores"]

    assert [score["engine"] for score in scores] == ["transformers"] * 2 + ["llama_cpp"] * 2
    assert scores[0]["bos"] == scores[2]["bos"]
    for task in config.tasks:
        ours, theirs = (
            [*read_jsonl(path)] for path in sorted((tmp_path / "out").glob(f"*/{task}.jsonl"))
        )
        for one, other in zip(ours, theirs, strict=True):
            assert (one["id"], one["prompt"]) == (other["id"], other["prompt"])
            assert one["logprobs"] == pytest.approx(other["logprobs"], abs=0.05)


@pytest.mark.parametrize("in_chat", [False, True])
def test_a_group_is_scored_with_worked_examples(
    tiny_model: Path, data: Path, tmp_path: Path, in_chat: bool
) -> None:
    output = tmp_path / "out"
    scores = scores_of(
        tiny_model, data, output, num_fewshot=1, apply_chat_template=in_chat, n_ctx=256,
        option_shuffles=2,
    )  # fmt: skip

    parts = ["pubmedqa", "medmcqa", "medqa", "mmlu_medical"]
    assert list(scores) == [*parts, "multimedqa"]
    assert [scores[name]["items"] for name in scores] == [3, 4, 2, 4, 13]
    hits = sum(scores[name]["accuracy"] * scores[name]["items"] for name in parts)
    assert scores["multimedqa"]["accuracy"] == pytest.approx(hits / 13)
    assert scores["multimedqa"]["tasks"] == parts
    assert len(scores["mmlu_medical"]["fewshot"]) == 2  # one of each subject
    for score in scores.values():
        assert (score["n_ctx"], score["num_fewshot"]) == (256, 1)
        assert score["template"].endswith("{prompt}") is not in_chat
        assert score["bos"] == [1]
    assert {*scores["mmlu_medical"]["by_subject"]} == {"anatomy", "medical_genetics"}
    assert [scores[name]["shuffled_answers"] for name in parts] == [0, 8, 4, 8]
    assert 0 <= scores["medmcqa"]["calibration_error"] <= 1
    records = list(read_jsonl(next(output.glob("*/mmlu_medical.jsonl"))))
    assert [len(record["shuffled"]) for record in records] == [2] * 4
