"""Every dataset of the catalog, on small invented files of exactly the schema of its release."""

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Example, Rejected
from medllm.data.registry.datasets import CATALOG, Dataset, known_specs, open_dataset
from medllm.data.split import SplitConfig
from medllm.errors import DataError

AGREEMENTS = ("mimic-iv-note", "mimic-iv-bhc", "mimic-cxr")
NOTE_HEADER = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"


def put(name: str, file: str, content: str | list[Any]) -> None:
    path = Path.cwd().parent / "datasets" / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def opened(name: str) -> Dataset:
    return open_dataset(name, accepted=AGREEMENTS)


def rows_of(name: str) -> list[Example | Rejected]:
    return list(opened(name).examples())


def only(name: str) -> Example:
    (row,) = rows_of(name)
    assert isinstance(row, Example), row
    return row


def prompt_of(example: Example) -> str:
    return "\n".join(message.content for message in example.prompt)


@pytest.mark.parametrize("name", sorted(path.stem for path in CATALOG.glob("*.yaml")))
def test_every_entry_says_what_it_is_and_under_which_terms(name: str) -> None:
    spec = known_specs()[name]

    assert spec.title
    assert spec.description
    assert spec.task
    assert spec.licence != "undeclared"
    assert spec.access != "private"
    assert spec.is_generated or spec.homepage
    assert spec.is_generated or spec.hub or spec.access_steps
    if spec.access == "credentialed":
        assert spec.hub is None
        assert spec.agreement in AGREEMENTS
        assert spec.placeholders == ("___",)


# Notes


def test_mimic_iv_note_streams_both_of_its_files() -> None:
    note = (
        '10000032-DS-21,10000032,22595853,DS,21,2180-05-07 00:00:00,,"Name: ___\n\nNo ""fever"".\n"'
    )
    put("mimic_iv_note_discharge", "note/discharge.csv.gz", f"{NOTE_HEADER}{note}\n")
    report = '10000032-RR-14,10000032,,RR,14,2180-05-06 21:19:00,2180-05-06 23:00:00,"Lungs clear."'
    empty = "10000033-RR-15,10000033,,RR,15,2180-05-06 21:19:00,,"
    put("mimic_iv_note_radiology", "radiology.csv", f"{NOTE_HEADER}{report}\n{empty}\n")

    discharge, radiology = only("mimic_iv_note_discharge"), rows_of("mimic_iv_note_radiology")

    assert discharge.id == "mimic_iv_note_discharge/10000032-DS-21"
    assert (discharge.group, discharge.prompt) == ("10000032", ())
    assert discharge.completion == 'Name: ___\n\nNo "fever".'
    assert discharge.metadata == {
        "hadm_id": "22595853", "note_type": "DS", "note_seq": "21",
        "charttime": "2180-05-07 00:00:00",
    }  # fmt: skip
    assert isinstance(radiology[0], Example)
    assert (radiology[0].group, radiology[0].completion) == ("10000032", "Lungs clear.")
    assert radiology[1] == Rejected("mimic_iv_note_radiology/10000033-RR-15", "no text")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (
            "mimic-iv-bhc.csv",
            "note_id,input,target,input_tokens,target_tokens\n"
            '10000032-DS-21,"<SEX> F <SERVICE> MEDICINE","She did well.",9,4\n',
        ),
        (
            "BHC_MIMIC-IV.csv",
            f"{NOTE_HEADER.rstrip().removesuffix('text')}input,target,input_length,target_length\n"
            "10000032-DS-21,10000032,22595853,DS,21,2180-05-07 00:00:00,2180-05-09 15:26:00,"
            '"summarize:\n<SEX> F <SERVICE> MEDICINE","She did well.",9,4\n',
        ),
    ],
)
def test_both_forms_of_mimic_iv_bhc_are_one(
    file: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put("mimic_iv_bhc", file, content)

    row = only("mimic_iv_bhc")

    assert (row.id, row.group) == ("mimic_iv_bhc/10000032-DS-21", "10000032")
    assert prompt_of(row) == "<SEX> F <SERVICE> MEDICINE"
    assert row.completion == "She did well."
    assert "re-upload of credentialed data" in capsys.readouterr().err


CXR = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough

 FINDINGS:

 The lungs are clear.  There is no
 effusion.

 IMPRESSION:

 No acute process.
"""


@pytest.mark.parametrize("as_zip", [False, True])
def test_mimic_cxr_reports_have_findings_and_an_impression(as_zip: bool) -> None:
    files = {
        "files/p10/p10000032/s50414267.txt": CXR,
        "files/p10/p10000032/s53189527.txt": " IMPRESSION:  No change.\n",
        "files/p11/p11000033/s50000001.txt": "",
    }
    if as_zip:
        put("mimic_cxr", "mimic-cxr-reports.zip", "")
        with zipfile.ZipFile(opened("mimic_cxr").files[0], "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    else:
        for name, text in files.items():
            put("mimic_cxr", name, text)

    whole, *others = rows_of("mimic_cxr")

    assert isinstance(whole, Example)
    assert (whole.id, whole.group) == ("mimic_cxr/s50414267", "10000032")
    assert prompt_of(whole).startswith("Findings: The lungs are clear.")
    assert prompt_of(whole).endswith("effusion.\nImpression:")
    assert whole.completion == "No acute process."
    assert others == [
        Rejected("mimic_cxr/s53189527", "no findings"),
        Rejected("mimic_cxr/s50000001", "no findings"),
    ]


@pytest.mark.parametrize("file", ["PMC-Patients.csv", "PMC-Patients-V2.json"])
def test_pmc_patients_are_grouped_by_article(file: str) -> None:
    row = {
        "patient_id": "0", "patient_uid": "7665777-2", "PMID": "33492400",
        "file_path": "comm/PMC007xxxxxx/PMC7665777.xml", "title": "A case", "patient": "A man.",
        "age": "[[60.0, 'year']]", "gender": "M", "relevant_articles": "{'32320506': 1}",
        "similar_patients": "{}",
    }  # fmt: skip
    header, values = ",".join(row), ",".join(f'"{value}"' for value in row.values())
    put("pmc_patients", file, f"{header}\n{values}\n" if "csv" in file else json.dumps([row]))

    read = only("pmc_patients")

    assert (read.id, read.group) == ("pmc_patients/7665777-2", "33492400")
    assert (read.prompt, read.completion) == ((), "A man.")
    assert read.metadata == {"title": "A case", "age": "[[60.0, 'year']]", "gender": "M"}


def test_augmented_clinical_notes_give_the_full_note() -> None:
    row = {
        "idx": "155216", "note": "A sixteen year", "full_note": "A sixteen year old girl.",
        "conversation": "Doctor: Good morning.", "summary": '{"visit motivation": "None"}',
    }  # fmt: skip
    put("augmented_clinical_notes", "augmented_notes_30K.jsonl", [row])

    read = only("augmented_clinical_notes")

    assert read.id == "augmented_clinical_notes/155216"
    assert read.completion == "A sixteen year old girl."


@pytest.mark.parametrize("note", ["note", "patient"])
def test_asclepius_keeps_the_questions_on_a_note_together(note: str) -> None:
    put(
        "asclepius",
        "synthetic.csv",
        f'patient_id,{note},question,answer,task\n7,"A note.","What?","That.",Summarization\n'
        '7,"A note.","Why?","So.",Named Entity Recognition\n7,,"Who?","She.",Paraphrasing\n',
    )

    first, second, third = rows_of("asclepius")

    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert prompt_of(first) == "A note.\n\nQuestion: What?"
    assert first.completion == "That."
    assert (first.group, first.id, second.group, second.id) == (
        "7", "asclepius/1", "7", "asclepius/2",
    )  # fmt: skip
    assert first.metadata == {"task": "Summarization"}
    assert third == Rejected("asclepius/3", "no note")


def test_mtsamples_as_kaggle_has_it() -> None:
    header = ",description,medical_specialty,sample_name,transcription,keywords\n"
    long = "SUBJECTIVE:,  A woman. " * 9
    rows = [f'{n},A visit., Allergy, Name ,"{text}",' for n, text in enumerate([long, "", long])]
    put("mtsamples", "mtsamples.csv", header + "\n".join(rows) + "\n")

    first, empty, again = rows_of("mtsamples")

    assert isinstance(first, Example)
    assert isinstance(again, Example)
    assert (first.id, first.completion) == ("mtsamples/1", long.strip())
    assert first.metadata["medical_specialty"] == " Allergy"
    assert empty == Rejected("mtsamples/2", "no transcription")
    assert first.group == again.group  # one report under two specialties
    assert len(first.group) == 32


# Questions

MEDQUAD = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001" source="CancerGov" url="https://www.cancer.gov/x">
<Focus>A tumour</Focus>
<QAPairs>
 <QAPair pid="1">
  <Question qid="0000001-1" qtype="information">What is (are) A tumour ?</Question>
  <Answer>A growth.</Answer>
 </QAPair>
 <QAPair pid="2">
  <Question qid="0000001-2" qtype="research">what research is being done ?</Question>
  <Answer></Answer>
 </QAPair>
</QAPairs>
</Document>
"""


def test_medquad_as_its_xml() -> None:
    put("medquad", "1_CancerGov_QA/0000001_1.xml", MEDQUAD)

    first, second = rows_of("medquad")

    assert isinstance(first, Example)
    assert first.id == "medquad/CancerGov-0000001-1-A tumour"
    assert first.group == "CancerGov-0000001"
    assert (prompt_of(first), first.completion) == ("What is (are) A tumour ?", "A growth.")
    assert first.metadata == {
        "source": "CancerGov", "url": "https://www.cancer.gov/x", "focus": "A tumour",
        "qtype": "information",
    }  # fmt: skip
    assert second == Rejected("medquad/CancerGov-0000001-2-A tumour", "no answer")


OPENI = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <meta type="rr"/>
  <uId id="CXR1"/>
  <pmcId id="1"/>
  <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
    <Article PubModel="Electronic"><Abstract>
      <AbstractText Label="COMPARISON">None.</AbstractText>
      <AbstractText Label="INDICATION">Positive test</AbstractText>
      <AbstractText Label="FINDINGS">XXXX are clear.</AbstractText>
      <AbstractText Label="IMPRESSION">Normal chest.</AbstractText>
    </Abstract></Article>
  </MedlineCitation>
  <MeSH><major>normal</major><major>Cicatrix/lung</major></MeSH>
  <parentImage id="CXR1_1_IM-0001-3001"/>
</eCitation>
"""
OPENI_CSV = (
    "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
    "CXR1,normal;Cicatrix/lung,normal,Xray Chest,Positive test,None.,"
    "XXXX are clear.,Normal chest.\n"
)


@pytest.mark.parametrize(
    ("file", "content"), [("ecgen-radiology/1.xml", OPENI), ("indiana_reports.csv", OPENI_CSV)]
)
def test_openi_reports_conclude_their_findings(file: str, content: str) -> None:
    put("openi", file, content)

    row = only("openi")

    assert row.id == "openi/CXR1"
    assert prompt_of(row) == "Findings: XXXX are clear.\nImpression:"
    assert row.completion == "Normal chest."
    assert row.metadata["MeSH"] == "normal;Cicatrix/lung"
    assert row.metadata["indication"] == "Positive test"


@pytest.mark.parametrize("content", ["<html><p>no data</p></html>", "<eCitation>", "", "\x00"])
def test_other_xml_is_refused(content: str) -> None:
    put("medquad", "1.xml", content)

    with pytest.raises(DataError, match=r"XML of a kind medllm does not read|not valid XML"):
        rows_of("medquad")


def test_pubmedqa_has_its_three_parts() -> None:
    row = {"QUESTION": "Is it?", "CONTEXTS": ["It may."], "LONG_ANSWER": "It is."}
    put("pubmedqa_artificial", "ori_pqaa.json", json.dumps({"1": {**row, "final_decision": "no"}}))
    put("pubmedqa_unlabeled", "ori_pqau.json", json.dumps({"2": row}))

    assert only("pubmedqa_artificial").target == "no"
    assert only("pubmedqa_unlabeled").target is None
    assert only("pubmedqa_unlabeled").completion == "It is."


# General text

WIKITEXT = """
 = First title =

 A paragraph .

 = = A section = =

 Another = paragraph .

 = Second title =

 The end .
"""


def test_wikitext_gives_articles_in_their_official_splits() -> None:
    put("wikitext", "wiki.valid.tokens", WIKITEXT)

    first, second = rows_of("wikitext")

    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert (first.id, first.metadata) == ("wikitext/wiki.valid-1", {"split": "validation"})
    assert first.completion.startswith("= First title =")
    assert "= = A section = =" in first.completion
    assert second.completion == "= Second title =\n\n The end ."


def test_wikitext_as_the_hubs_files_gives_the_same_articles() -> None:
    import pyarrow
    import pyarrow.parquet

    put("wikitext", "wiki.train.tokens", WIKITEXT)
    articles = [row.completion for row in rows_of("wikitext") if isinstance(row, Example)]
    (opened("wikitext").files[0]).unlink()
    put("wikitext", "wikitext-2-raw-v1/train-00000-of-00001.parquet", "")
    lines = [{"text": line} for line in WIKITEXT.splitlines(keepends=True)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), opened("wikitext").files[0])

    read = [row for row in rows_of("wikitext") if isinstance(row, Example)]

    assert [row.completion for row in read] == articles
    assert [row.metadata["split"] for row in read] == ["train", "train"]


def test_c4_is_read_from_its_shard() -> None:
    row = {"text": "A page.", "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org"}
    put("c4", "en/c4-train.00000-of-01024.json.gz", [row, row])

    first, _ = rows_of("c4")

    assert isinstance(first, Example)
    assert (first.id, first.completion) == ("c4/1", "A page.")
    assert set(first.metadata) == {"timestamp", "url"}


def test_a_source_without_a_validation_split_gives_some_of_its_training_rows() -> None:
    for split, count in (("train", 200), ("test", 20)):
        rows = [
            {
                "question": f"{split} {number}?",
                "options": {"A": "one", "B": "two", "C": "three", "D": "four"},
                "answer": "two",
                "answer_idx": "B",
                "meta_info": "step1",
            }
            for number in range(count)
        ]
        put("medqa", f"phrases_no_exclude_{split}.jsonl", rows)
    dataset = open_dataset("medqa")

    examples = [row for row in dataset.examples() if isinstance(row, Example)]
    splits = Counter(
        (row.metadata["split"], dataset.split_of(row, SplitConfig())) for row in examples
    )

    assert splits["test", "test"] == 20
    assert splits["train", "validation"] + splits["train", "train"] == 200
    assert 10 <= splits["train", "validation"] <= 30
