"""Entities in text: names of the vocabulary, names by their words, and short forms."""

import gzip
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pace import is_linear, repeated

from medllm.clinical.entities import find_entities
from medllm.clinical.entities.models import load_spacy
from medllm.clinical.entities.vocabulary import ENTITIES
from medllm.clinical.entities.words import TYPES, normal
from medllm.clinical.text.reading import Reading, read
from medllm.errors import ArtifactError, SetupError


def found(text: str) -> list[tuple[str, str]]:
    reading = read(text)
    return [(text[slice(*each.place(reading))], each.type) for each in find_entities(reading)]


def test_names_have_a_type_and_the_ids_of_the_vocabularies() -> None:
    reading = read("Aspirin for Marfan's syndrome")

    drug, disease = find_entities(reading)

    assert drug.type == "drug" and {"DB00945", "MESH:D001241"} <= {*drug.ids}
    assert disease.type == "disease" and disease.last == len(reading.words)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nausea after colonoscopy", [("nausea", "finding"), ("colonoscopy", "procedure")]),
        ("the left kidney", [("kidney", "anatomy")]),
        ("severe renal tubular acidosis", [("renal tubular acidosis", "disease")]),
        ("a McLeod syndrome", [("McLeod syndrome", "disease")]),
        ("this syndrome, that disease", []),
        ("oesophageal tumours", [("oesophageal tumours", "disease")]),
        ("sodium valproate", [("sodium valproate", "drug")]),
        ("gentamicin sulfate", [("gentamicin sulfate", "drug")]),
        ("the diagnosis and prognosis", []),
        ("MIGRAINE\nand  asthma", [("MIGRAINE", "disease"), ("asthma", "disease")]),
    ],
)
def test_names_are_found_by_vocabulary_head_or_ending(
    text: str, wanted: list[tuple[str, str]]
) -> None:
    assert found(text) == wanted


def test_a_short_form_is_what_the_text_says_that_it_is() -> None:
    text = "Chronic kidney disease (CKD) is common. CKD kills; ckd in lower case is not defined."

    assert found(text)[:3] == [
        ("Chronic kidney disease", "disease"), ("CKD", "disease"), ("CKD", "disease"),
    ]  # fmt: skip
    assert ("ckd", "disease") not in found(text)
    assert found("ataxia-telangiectasia (A-T); A-T is rare")[1:] == [
        ("A-T", "disease"), ("A-T", "disease"),
    ]  # fmt: skip
    assert found("CKD") == []


@pytest.mark.parametrize(
    ("word", "form"),
    [("carcinomas", "carcinoma"), ("anaemia", "anemia"), ("tumours", "tumor"), ("dose", "dose"),
     ("biopsies", "biopsy"), ("metastases", "metastasis"), ("pus", "pus"), ("stress", "stress")],
)  # fmt: skip
def test_words_are_compared_in_one_number_and_spelling(word: str, form: str) -> None:
    assert normal(word) == form


def test_every_line_of_the_vocabulary_has_a_type_and_names_in_normal_form() -> None:
    lines = gzip.decompress(ENTITIES.read_bytes()).decode().splitlines()
    names = [line.split("\t") for line in lines if not line.startswith("#")]

    assert "National Library of" in lines[1] and len(names) > 50_000
    assert {type_ for _, type_, _ in names} == {*TYPES}
    sample = [name for name, _, _ in names[::50]]
    assert all(" ".join(map(normal, name.split())) == name for name in sample)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["renal", "failure", "(", "RF)", "(RF)", "sodium", "syndrome", "-", "Ab",
                         "acute", "aspirin", ",", "of", "edema", "\n", "é"]),
        max_size=30,
    ).map(" ".join)
)  # fmt: skip
def test_no_text_crashes_it_and_none_overlap(text: str) -> None:
    entities = find_entities(read(text))

    assert all(each.first < each.last for each in entities)
    assert all(a.last <= b.first for a, b in zip(entities, entities[1:], strict=False))


@pytest.mark.parametrize(
    "piece", ["acute renal failure ", "sodium ", "(ab) ", "Pendred ", "renal "]
)
def test_time_is_linear_in_the_length(piece: str) -> None:
    def reading(characters: int) -> Reading:
        read_text = read(repeated(piece)(characters))
        assert read_text.sentences
        return read_text

    assert is_linear(find_entities, reading)


def test_a_spacy_model_is_asked_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for spaCy, which is no dependency: what it is given and what is made of it."""
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(SetupError, match="need spaCy"):
        load_spacy(tmp_path)
    spacy = ModuleType("spacy")
    entity = SimpleNamespace(label_="CHEMICAL", start_char=5, end_char=12)
    unknown = SimpleNamespace(label_="GENE", start_char=0, end_char=4)
    spacy.load = lambda folder: lambda text: SimpleNamespace(ents=[entity, unknown])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    with pytest.raises(ArtifactError, match=r"no config\.cfg"):
        load_spacy(tmp_path)
    (tmp_path / "config.cfg").touch()

    reading = read("Take aspirin.")
    (one,) = load_spacy(tmp_path)(reading)

    assert (one.type, reading.words[one.first : one.last]) == ("drug", ["aspirin"])
