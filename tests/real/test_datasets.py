"""The registry on real files: every row is an Example, or is counted with its reason."""

import json
from collections import Counter
from pathlib import Path

import pytest

from medllm.data.example import Example
from medllm.data.registry.datasets import keep_examples, open_dataset
from medllm.data.registry.inventory import add_dataset

SETS = {
    "pubmedqa": ("qa/pubmedqa", 1000, {}),
    "medqa": ("qa/medqa", 100, {}),
    "medmcqa": ("qa/medmcqa", 1000, {}),
    "mmlu_medical": ("qa/mmlu", 265, {}),
    "medquad": ("qa/medquad", 3000, {}),
    "mtsamples": ("notes/mtsamples_shared.csv.gz", 3904, {"no transcription": 27}),
    "wikitext": ("general/wikitext-2_valid.txt", 60, {}),
    "c4": ("general/c4_demo.jsonl", 300, {}),
}


def read(shared: Path, name: str) -> tuple[list[Example], dict[str, int], str]:
    line = add_dataset(name, shared / "data" / SETS[name][0], None, None)
    rejected: dict[str, int] = {}
    return list(keep_examples(open_dataset(name).examples(), rejected)), rejected, line


@pytest.mark.parametrize("name", SETS)
def test_every_row_is_read_or_counted(shared: Path, name: str) -> None:
    _, count, reasons = SETS[name]

    rows, rejected, line = read(shared, name)

    assert (len(rows), rejected) == (count, reasons)
    assert len({row.id for row in rows}) == count
    assert line.startswith(f"{name}: {count:,} rows")


def letters(rows: list[Example]) -> dict[str | None, int]:
    return dict(Counter(row.target for row in rows))


def test_pubmedqa_holds_its_500_test_questions(shared: Path) -> None:
    rows, _, _ = read(shared, "pubmedqa")
    truth = json.loads((shared / "data/qa/pubmedqa/test_ground_truth.json").read_text())

    assert letters(rows) == {"yes": 552, "no": 338, "maybe": 110}
    assert {row.group: row.target for row in rows if row.group in truth} == truth
    assert open_dataset("pubmedqa").test_ids == set(truth)


def test_medqa_takes_its_options_out_of_the_question(shared: Path) -> None:
    rows, _, _ = read(shared, "medqa")

    assert letters(rows) == {"A": 23, "B": 16, "C": 12, "D": 26, "E": 23}
    assert Counter(row.metadata["split"] for row in rows) == {"train": 50, "validation": 50}
    assert not [row.id for row in rows if "Choices:" in row.prompt[0].content]
    assert rows[0].completion == "E. Nitrofurantoin"


def test_medmcqa_counts_answers_from_0(shared: Path) -> None:
    rows, _, _ = read(shared, "medmcqa")

    assert letters(rows) == {"A": 342, "B": 257, "C": 224, "D": 177}
    assert rows[0].prompt[0].content == (
        "Question: Which of the following is developed from the 1st arch:\nChoices:\n"
        "A. Stylohyoid ligament.\nB. Spenomandibular ligament.\nC. Stapes.\n"
        "D. Styloid process.\nAnswer:"
    )
    assert {row.metadata["split"] for row in rows} == {"test"}


def test_mmlu_knows_its_subjects_and_splits(shared: Path) -> None:
    rows, _, _ = read(shared, "mmlu_medical")
    splits = Counter((row.metadata["subject"], row.metadata["split"]) for row in rows)

    assert letters(rows) == {"A": 61, "B": 67, "C": 73, "D": 64}
    assert splits["anatomy", "test"] == 135
    assert splits["medical_genetics", "test"] == 100
    assert sum(n for (_, split), n in splits.items() if split == "train") == 30


def test_medquad_groups_the_questions_on_a_page(shared: Path) -> None:
    rows, _, _ = read(shared, "medquad")

    assert len({row.group for row in rows}) == 989
    assert all(row.prompt and row.completion for row in rows)


def test_mtsamples_files_a_report_under_several_specialties(shared: Path) -> None:
    rows, _, _ = read(shared, "mtsamples")
    groups = {row.group: row.completion for row in rows}

    assert len(groups) == len({row.completion for row in rows}) == 1861
    assert all(groups[row.group] == row.completion for row in rows)


def test_wikitext_gives_whole_articles(shared: Path) -> None:
    rows, _, _ = read(shared, "wikitext")
    words = (shared / "data/general/wikitext-2_valid.txt").read_text(encoding="utf-8").split()

    assert [word for row in rows for word in row.completion.split()] == words
    assert rows[0].completion.startswith("= Homarus gammarus = ")
