"""Texts with marked entities: BC5CDR's and NCBI's form, IOB's, and how named things are counted."""

from pathlib import Path

import pytest

from medllm.data.example import Example, Rejected
from medllm.data.registry.datasets import Dataset, open_dataset
from medllm.data.shapes.entities import mentions_of
from medllm.data.split import SplitConfig
from medllm.measures.spans import Counts, count_exact, count_overlapping, estimate_f1, find_mentions

PUBTATOR = """12|t|Lithium carbonate toxicity.
12|a|Atrial flutter after lithium. A newborn
12\t0\t17\tLithium carbonate\tChemical\tD016651
12\t18\t26\ttoxicity\tDisease\tD064420
12\t28\t42\tAtrial flutter\tDisease\tD001282
12\t49\t56\tlithium\tChemical\tD008094
12\tCID\tD008094\tD001282

13|t|Nothing here.
13|a|None at all.

14|t|Cut.
14|a|Short.
14\t3\t99\tfar\tDisease\tD1

15|t|Naïve µg asthma.
15|a|Its places count bytes.
15\t11\t17\tasthma\tDisease\tD2

16|t|BRCA1 is a gene.
16|a|And no disease.
16\t0\t5\tBRCA1\tGene\tG1
"""
IOB = (
    "Acute\tB-Disease\nrenal\tI-Disease\nfailure\tI-Disease\nafter\tO\naspirin\tB-Chemical\n\n"
    "No\tO\n"
)


def read(
    folder: Path, name: str, files: dict[str, str]
) -> tuple[Dataset, list[Example | Rejected]]:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text)
    dataset = open_dataset(name, data_dir=folder)
    return dataset, list(dataset.examples())


def test_pubtator_is_read_with_its_spans_and_its_splits(tmp_path: Path) -> None:
    files = {"CDR_TestSet.PubTator.txt": PUBTATOR, "CDR_TrainingSet.PubTator.txt": PUBTATOR[:0]}
    dataset, (first, second, cut, bytes_of, gene) = read(tmp_path, "bc5cdr", files)

    assert isinstance(first, Example) and isinstance(second, Example)
    assert (first.id, first.group_key) == ("bc5cdr/12", "article:12")
    text = first.prompt[0].content
    assert [text[a:b] for a, b in sorted(mentions_of(first)["disease"])] == [
        "toxicity", "Atrial flutter",
    ]  # fmt: skip
    assert first.completion.splitlines() == [
        "chemical: Lithium carbonate", "disease: toxicity", "disease: Atrial flutter",
        "chemical: lithium",
    ]  # fmt: skip
    assert (second.completion, mentions_of(second)) == ("none", {})
    assert cut == Rejected("bc5cdr/14", "a mention lies outside of the text")
    assert bytes_of == Rejected("bc5cdr/15", "other words stand where a mention is said to be")
    assert gene == Rejected("bc5cdr/16", "a mention is neither of a disease nor of a chemical")
    assert dataset.split_of(first, SplitConfig()) == "test"


def test_iob_is_read_by_sentence(tmp_path: Path) -> None:
    _, (first, second) = read(tmp_path, "ncbi_disease", {"NCBI-disease-IOB_devel.tsv": IOB})

    assert isinstance(first, Example) and isinstance(second, Example)
    assert first.prompt[0].content == "Acute renal failure after aspirin"
    assert mentions_of(first) == {"disease": {(0, 19)}, "chemical": {(26, 33)}}
    assert mentions_of(second) == {}
    assert first.id != second.id and first.metadata["split"] == "validation"


def test_names_are_found_as_whole_words_the_longest_first() -> None:
    text = "Acute renal  failure, renal failure; no ARFs."
    spans, missing = find_mentions(["renal failure", "acute renal failure", "ARF", "gout"], text)

    assert spans == {(0, 20), (22, 35)}
    assert missing == ["gout", "ARF"] or missing == ["ARF", "gout"]


def test_spans_count_exactly_and_where_they_overlap() -> None:
    found, wanted = {(0, 5), (7, 9), (20, 22)}, {(0, 5), (6, 9)}

    assert count_exact(found, wanted) == Counts(wanted=2, given=3, hits=1, reached=1)
    assert count_overlapping(found, wanted) == Counts(wanted=2, given=3, hits=2, reached=2)
    scores = estimate_f1([count_exact(found, wanted), count_exact(set(), {(1, 2)})])
    assert scores["precision"].value == pytest.approx(1 / 3)
    assert scores["recall"].value == pytest.approx(1 / 3)
    assert scores["f1"].value == pytest.approx(2 / 6)
    assert "precision" not in estimate_f1([count_exact(set(), {(1, 2)})])
