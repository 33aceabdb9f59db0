"""A training with general text replayed: what it left of both domains, and of which texts."""

import json
from pathlib import Path

import pytest
from test_three_calls import invent_text, write_pubmedqa
from typed import Typed

from medllm.data.example import read_jsonl
from medllm.data.registry.datasets import CATALOG, open_dataset
from medllm.data.split import SplitConfig
from medllm.engines.base import ScoreRequest
from medllm.engines.open import open_model
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate
from medllm.models.load import resolve_model

ARTICLES = 12


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with invented rows of PubMedQA and invented articles."""
    folder = tmp_path / "data"
    write_pubmedqa(folder / "pubmedqa")
    move_to_test(folder / "pubmedqa" / "ori_pqal.json")
    (folder / "wikitext").mkdir()
    for number, split in enumerate(("train", "test")):
        texts = [f" = Town {n} = \n{invent_text(1000 * number + n)}\n" for n in range(ARTICLES)]
        (folder / "wikitext" / f"wiki.{split}.txt").write_text("".join(texts), encoding="utf-8")
    monkeypatch.setenv("MEDLLM_DATA_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def move_to_test(path: Path, count: int = 8) -> None:
    """Give the first rows ids of the official test split."""
    official = (CATALOG / "pubmedqa_test_ids.txt").read_text(encoding="utf-8").split()
    rows = json.loads(path.read_text(encoding="utf-8"))
    ids = [*official[:count], *list(rows)[count:]]
    path.write_text(json.dumps(dict(zip(ids, rows.values(), strict=True))), encoding="utf-8")


def test_base_and_result_are_scored_in_both_domains(
    tiny_model: Path, data_dir: Path, typed: Typed
) -> None:
    settings = [f"model={tiny_model}", "finetune.training.max_steps=2"]
    short = [*settings, "finetune.training.max_length=256"]

    ran = typed("run", "--config", "lora-replay", *(w for each in short for w in ("--set", each)))

    assert ran.returncode == 0, ran.stderr
    assert "wikitext perplexity" in " ".join(ran.stdout.split())
    folder = data_dir.parent / "runs" / "lora-replay" / "evaluate"
    for model in (tiny_model.name, "merged"):
        for task, items in (("wikitext", ARTICLES), ("pubmedqa", 8), ("answers", 8)):
            assert len(list(read_jsonl(folder / model / f"{task}.jsonl"))) == items


def test_a_text_is_as_likely_as_its_tokens_one_after_the_other(
    tiny_model: Path, data_dir: Path
) -> None:
    config = EvaluateConfig(
        models=(str(tiny_model),), tasks=("wikitext",), output=data_dir.parent / "scores"
    )

    (score,) = evaluate(config).results["scores"]

    engine = open_model(resolve_model(str(tiny_model)))
    begin = tuple(engine.encode("", add_special_tokens=True))
    articles = [
        tuple(engine.encode(example.text, add_special_tokens=False))
        for example in open_dataset("wikitext").in_split("test", SplitConfig())
    ]
    expected = engine.score([ScoreRequest(begin, article) for article in articles])
    assert max(map(len, articles)) < engine.context_length
    assert score["tokens"] == sum(each.tokens for each in expected) == sum(map(len, articles))
    loss = -sum(each.logprob for each in expected) / score["tokens"]
    assert score["loss"] == pytest.approx(loss, rel=1e-5)
