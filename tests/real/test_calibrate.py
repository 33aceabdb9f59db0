"""Calibration sets from real data, with a real tokenizer."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.inspect import analyze
from medllm.calibrate.verb import calibrate
from medllm.data.example import read_jsonl
from medllm.data.mix import Mix
from medllm.data.registry.datasets import open_dataset
from medllm.errors import DataError

FILES = {
    "pubmedqa/ori_pqal.json": "qa/pubmedqa/ori_pqal.json",
    "mtsamples/mtsamples.csv.gz": "notes/mtsamples_shared.csv.gz",
    "medquad/medquad.jsonl.gz": "qa/medquad/medquad_sample.jsonl.gz",
    "c4/c4.jsonl": "general/c4_demo.jsonl",
    "medmcqa/medmcqa.jsonl": "qa/medmcqa/medmcqa_validation_sample_1000.jsonl",
}


@pytest.fixture(scope="module")
def raw(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files under their names in the registry."""
    folder = tmp_path_factory.mktemp("raw") / "datasets"
    for name, source in FILES.items():
        link = folder / name
        link.parent.mkdir(parents=True)
        link.symlink_to(shared / "data" / source)
    return folder


@pytest.fixture
def data(raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """They are where datasets are looked for."""
    monkeypatch.setenv("MEDLLM_DATA_DIR", str(raw))
    return raw


def build(shared: Path, output: Path, **settings: Any) -> list[dict[str, Any]]:
    tokenizer = str(shared / "models/tiny-med")
    calibrate(CalibrateConfig(output=output, tokenizer=tokenizer, **settings))
    return list(read_jsonl(output / "calibration.jsonl"))


def parts_of(folder: Path) -> dict[str, list[str]]:
    return {row["id"]: row["parts"] for row in read_jsonl(folder / "parts.jsonl")}


MIX = Mix(shares={"pubmedqa": 50, "mtsamples": 30, "medquad": 20}, pack=("medquad",))


@pytest.fixture(scope="module")
def mixed(shared: Path, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the mix and of general text."""
    folder = tmp_path_factory.mktemp("mixed") / "set"
    build(shared, folder, mix=MIX, samples=100, general_share=0.1, data_dir=raw)
    return folder


def test_a_mix_keeps_its_quotas_and_its_bounds(mixed: Path) -> None:
    rows = list(read_jsonl(mixed / "calibration.jsonl"))

    sources = Counter((row["source"], row["type"]) for row in rows)
    assert sources == {
        ("pubmedqa", "medical"): 50,
        ("mtsamples", "medical"): 30,
        ("medquad", "medical"): 20,
        ("c4", "general"): 10,
    }
    assert all(256 <= row["tokens"] <= 4096 for row in rows)
    parts = parts_of(mixed)
    packed = {row["source"] for row in rows if len(parts[row["id"]]) > 1}
    assert packed == {"medquad"}
    assert len({row["text"] for row in rows}) == len(rows)


def test_what_is_held_out_is_not_in_the_set(mixed: Path, data: Path) -> None:
    rows = list(read_jsonl(mixed / "calibration.jsonl"))
    parts_by_id = parts_of(mixed)
    parts = {part for row in rows for part in parts_by_id[row["id"]]}
    held_out = [
        row
        for kind in ("medical", "general")
        for row in read_jsonl(mixed / f"holdout_{kind}.jsonl")
    ]

    assert {row["type"] for row in held_out} == {"medical", "general"}
    assert not parts & {part for row in held_out for part in parts_by_id[row["id"]]}
    assert not {row["text"] for row in rows} & {row["text"] for row in held_out}
    test_ids = {f"pubmedqa/{name}" for name in open_dataset("pubmedqa").test_ids}
    assert len(test_ids) == 500
    assert not test_ids & (parts | {part for row in held_out for part in parts_by_id[row["id"]]})


def test_the_statistics_say_what_the_set_is(shared: Path, data: Path, tmp_path: Path) -> None:
    rows = build(shared, tmp_path / "set", mix=MIX, samples=100)
    found = json.loads((tmp_path / "set/statistics.json").read_text(encoding="utf-8"))

    assert found["samples"] == 100
    assert found["tokens"] == sum(row["tokens"] for row in rows)
    assert found["sources"] == {"pubmedqa": 50, "mtsamples": 30, "medquad": 20}
    assert found["medical_share"] > 0.9
    assert 0 < found["rare_term_coverage"] < found["term_coverage"] < 1
    assert found["overlaps"] == {"medmcqa": [], "pubmedqa": []}
    passed = [check["passed"] for check in found["checks"]]
    assert passed[0] is False  # 100 texts are fewer than 512
    assert (tmp_path / "set/report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_general_text_is_told_from_medical_text(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CalibrateConfig(tokenizer=str(shared / "models/tiny-med"))

    general = analyze(shared / "data/general/c4_demo.jsonl", config)
    notes = analyze(shared / "data/notes/trec_ct_2021_queries.jsonl", config)

    assert general["medical_share"] < 0.05
    assert notes["medical_share"] > 0.95
    assert (general["samples"], notes["samples"]) == (300, 75)
    said = [line for line in capsys.readouterr().out.splitlines() if "of texts are medical" in line]
    assert [line.split()[0] for line in said] == ["warn", "pass"]
    assert [line.split()[1] for line in said] == [
        f"{100 * found['medical_share']:.4g}%" for found in (general, notes)
    ]


def test_overlap_with_an_evaluation_set_is_named(shared: Path, data: Path, tmp_path: Path) -> None:
    dataset = open_dataset("pubmedqa")
    test_row = next(
        row for row in dataset.examples() if getattr(row, "group", "") in dataset.test_ids
    )
    leaked = tmp_path / "leaked.jsonl"
    rows = [{"text": test_row.text, "id": "leak"}, {"text": "nothing of it", "id": "clean"}]
    leaked.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    found = analyze(leaked, CalibrateConfig(tokenizer=str(shared / "models/tiny-med")))

    assert found["overlaps"]["pubmedqa"] == ["leaked/leak"]


def test_boosted_terms_come_first(shared: Path, data: Path, tmp_path: Path) -> None:
    mix = Mix(shares={"mtsamples": 1})
    plain = build(shared, tmp_path / "plain", mix=mix, samples=60)
    boosted = build(shared, tmp_path / "boosted", mix=mix, samples=60, boost_terms="cardiology")

    def share(rows: list[dict[str, Any]]) -> float:
        return sum("coronary" in row["text"].lower() for row in rows) / len(rows)

    assert len(boosted) == 60
    assert share(boosted) > share(plain)


@pytest.mark.parametrize("over_length", ["truncate", "split"])
def test_long_notes_are_cut_where_that_is_asked_for(
    shared: Path, data: Path, tmp_path: Path, over_length: str
) -> None:
    settings = {"mix": Mix(shares={"mtsamples": 1}), "samples": 60, "max_tokens": 300}
    rows = build(shared, tmp_path / over_length, over_length=over_length, **settings)

    assert max(row["tokens"] for row in rows) == 300
    assert any("#" in row["id"] for row in rows) == (over_length == "split")


def test_a_shortage_names_what_is_missing(shared: Path, data: Path, tmp_path: Path) -> None:
    settings = {"mix": Mix(shares={"medmcqa": 50, "pubmedqa": 50}), "samples": 100}

    with pytest.raises(DataError, match=r"medmcqa: \d of 50 samples") as problem:
        build(shared, tmp_path / "set", **settings)
    assert "--on-shortage rebalance" in problem.value.fix
    assert not (tmp_path / "set").exists()
    rows = build(shared, tmp_path / "set", on_shortage="rebalance", **settings)
    assert Counter(row["source"] for row in rows)["pubmedqa"] > 90
    assert len(rows) == 100
