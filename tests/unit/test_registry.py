"""Opening datasets by name or path, under their terms."""

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medllm.data.example import Example, Rejected
from medllm.data.registry.datasets import Dataset, alternatives, known_specs, open_dataset
from medllm.data.registry.hub import HubSource
from medllm.data.registry.inventory import (
    add_dataset,
    describe_dataset,
    describe_datasets,
    fetch_dataset,
    sample_texts,
)
from medllm.data.registry.specs import CATALOG, DatasetSpec
from medllm.data.split import SplitConfig
from medllm.errors import ConfigError, DataError
from medllm.recipe import load_recipe

QUESTION = {
    "QUESTION": "Is it?",
    "CONTEXTS": ["It may be."],
    "LONG_ANSWER": "It is.",
    "final_decision": "yes",
}
RELEASE = json.dumps({"21645374": QUESTION, "16418930": QUESTION})
NOTES = "".join(json.dumps({"id": n, "text": f"note {n}"}) + "\n" for n in range(3))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder that `MEDLLM_DATA_DIR` names in tests."""
    return tmp_path / "datasets"


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def ids(dataset: Dataset) -> list[str]:
    return [row.id for row in dataset.examples()]


# By name


@pytest.mark.parametrize("name", ["ori_pqal.json", "ori_pqal.json.gz"])
def test_a_dataset_is_found_in_the_data_folder(data: Path, name: str) -> None:
    put(data / "pubmedqa" / name, RELEASE)

    dataset = open_dataset("pubmedqa")

    assert ids(dataset) == ["pubmedqa/21645374", "pubmedqa/16418930"]
    assert dataset.term.model_dump() == {
        "dataset": "pubmedqa", "licence": "MIT", "access": "open", "agreement": None,
        "hub": "qiaojin/PubMedQA", "language": ("en",),
    }  # fmt: skip
    assert len(dataset.test_ids) == 500


def test_the_data_folder_can_be_named(tmp_path: Path) -> None:
    put(tmp_path / "mine/pubmedqa/ori_pqal.json", RELEASE)

    assert len(ids(open_dataset("pubmedqa", data_dir=tmp_path / "mine"))) == 2


def test_other_files_in_its_folder_are_left_alone(data: Path) -> None:
    put(data / "pubmedqa/ori_pqal.json", RELEASE)
    put(data / "pubmedqa/ori_pqau.json", "not even JSON")

    assert len(ids(open_dataset("pubmedqa"))) == 2


def test_a_generated_dataset_needs_no_file() -> None:
    dataset = open_dataset("synthetic_radiology")

    assert dataset.files == ()
    assert dataset.parent.path == "generated: synthetic_radiology"
    assert isinstance(next(iter(dataset.examples())), Example)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("pubmed_qa", "did you mean 'pubmedqa'?"), ("zzz", "see `medllm datasets list`")],
)
def test_an_unknown_name_is_a_config_error(name: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_dataset(name)

    assert (caught.value.message, caught.value.fix) == (f"unknown dataset '{name}'", fix)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("ref", ["nowhere/notes.jsonl", "notes.csv", "./nowhere"])
def test_a_missing_path_is_a_data_error(ref: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(ref)

    assert caught.value.message == f"no such data file or folder: {ref}"
    assert caught.value.exit_code == 3


def test_without_files_and_without_the_hub_it_says_where_they_go(data: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset("pubmedqa")

    assert (
        caught.value.message == "pubmedqa: not on this machine, and the hub is not asked (offline)"
    )
    assert f"into {data / 'pubmedqa'}" in caught.value.fix
    assert "medllm datasets add pubmedqa PATH" in caught.value.fix


# By path


def test_a_users_file_is_private(data: Path) -> None:
    path = put(Path.cwd() / "ward.notes.jsonl", NOTES)

    dataset = open_dataset(str(path))

    assert ids(dataset) == ["ward/0", "ward/1", "ward/2"]
    assert (dataset.term.access, dataset.term.licence) == ("private", "undeclared")


def test_all_data_files_of_a_folder_are_read_in_order() -> None:
    put(Path("ward/b.jsonl"), '{"id": "b", "text": "t"}')
    put(Path("ward/a.csv"), "id,text\na,t\n")
    put(Path("ward/notes.docx"), "not data")

    dataset = open_dataset("ward")

    assert ids(dataset) == ["ward/a.csv/a", "ward/b.jsonl/b"]


def test_a_folder_without_data_is_refused() -> None:
    put(Path("ward/notes.docx"), "not data")

    with pytest.raises(DataError, match="ward: holds no data files"):
        open_dataset("ward")


def test_what_it_is_made_of_is_known_by_content() -> None:
    one = open_dataset(str(put(Path("a/notes.jsonl"), NOTES))).parent
    same = open_dataset(str(put(Path("b/notes.jsonl"), NOTES))).parent
    other = open_dataset(str(put(Path("c/notes.jsonl"), NOTES + NOTES))).parent

    assert one.identity == same.identity != other.identity


def test_rows_are_rejected_with_a_reason() -> None:
    path = put(Path("notes.jsonl"), '{"text": "a"}\n{"b": "c"}\n')

    assert [type(row) for row in open_dataset(str(path)).examples()] == [Example, Rejected]


# Declared terms

CREDENTIALED = "title: ICU notes\nshape: local\nlicence: DUA\naccess: credentialed\n"


def test_a_credentialed_dataset_needs_its_agreement(data: Path) -> None:
    put(data / "icu/dataset.yaml", CREDENTIALED + "agreement: icu-dua\n")
    put(data / "icu/notes.jsonl", NOTES)

    for accepted in ((), ("other-dua",)):
        with pytest.raises(DataError) as caught:
            open_dataset("icu", accepted=accepted)
        assert caught.value.message == (
            "icu may be read only under the data use agreement 'icu-dua'"
        )
        assert "--accept-terms icu-dua" in caught.value.fix

    dataset = open_dataset("icu", accepted=("icu-dua",))
    assert len(ids(dataset)) == 3
    assert (dataset.term.access, dataset.term.agreement) == ("credentialed", "icu-dua")


def test_a_path_is_no_way_around_the_agreement(data: Path) -> None:
    put(data / "icu/dataset.yaml", CREDENTIALED + "agreement: icu-dua\n")
    path = put(data / "icu/notes.jsonl", NOTES)

    for ref in (path, path.parent):
        with pytest.raises(DataError, match="under the data use agreement 'icu-dua'"):
            open_dataset(str(ref))
        assert len(ids(open_dataset(str(ref), accepted=("icu-dua",)))) == 3


def test_a_path_into_the_data_folder_is_its_dataset(data: Path) -> None:
    header = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"
    path = put(
        data / "mimic_iv_note_discharge/discharge.csv.gz", f"{header}1-DS-1,1,2,DS,1,,,Text\n"
    )

    for ref in (path, path.parent):
        with pytest.raises(DataError, match="under the data use agreement 'mimic-iv-note'"):
            open_dataset(str(ref))
        dataset = open_dataset(str(ref), accepted=("mimic-iv-note",))
        assert ids(dataset) == ["mimic_iv_note_discharge/1-DS-1"]
        assert dataset.term.access == "credentialed"


@pytest.mark.parametrize("access", ["open", "non-commercial", "private"])
def test_no_spec_of_a_users_loosens_terms(data: Path, access: str) -> None:
    declared = f"title: T\nshape: local\nlicence: MIT\naccess: {access}\n"
    put(data / "mimic_iv_note_discharge/dataset.yaml", declared)
    put(data / "mimic_iv_note_discharge/discharge.csv", "text\nA note.\n")
    put(Path("mimic-iv-note-discharge/dataset.yaml"), declared)
    put(Path("mimic-iv-note-discharge/discharge.csv"), "text\nA note.\n")

    for ref in ("mimic_iv_note_discharge", "./mimic-iv-note-discharge"):
        with pytest.raises(DataError, match="data use agreement 'mimic-iv-note'"):
            open_dataset(ref)
        term = open_dataset(ref, accepted=["mimic-iv-note"]).term
        assert term.access == ("private" if access == "private" else "credentialed")


@pytest.mark.parametrize("chain", [1, 2])
@pytest.mark.parametrize("own", ["access: open\nlicence: MIT\n", "agreement: mine\n"])
def test_no_spec_loosens_the_terms_of_what_it_extends(data: Path, own: str, chain: int) -> None:
    extended = str(CATALOG / "mimic_iv_note_discharge.yaml")
    for step in range(1, chain):
        put(data / f"step{step}.yaml", f"extends: {extended}\n{own}")
        extended = str(data / f"step{step}.yaml")
    put(data / "ward/dataset.yaml", f"extends: {extended}\n{own}")
    put(data / "ward/discharge.csv", "note_id,subject_id,text\n1-DS-1,1,A note.\n")

    with pytest.raises(DataError, match="data use agreement 'mimic-iv-note'"):
        open_dataset("ward", accepted=["mine"])
    term = open_dataset("ward", accepted=["mimic-iv-note"]).term
    assert (term.access, "PhysioNet" in term.licence) == ("credentialed", True)


def test_a_spec_of_a_users_may_tighten_terms(data: Path) -> None:
    put(data / "pubmedqa/dataset.yaml", "title: T\nshape: pubmedqa\naccess: private\n")
    put(data / "pubmedqa/a.json", RELEASE)

    assert open_dataset("pubmedqa").term.access == "private"


def test_a_broken_declaration_stops_its_own_dataset_alone(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(data / "pubmedqa/ori_pqal.json", RELEASE)
    put(data / "medqa/dataset.yaml", "title: [\n")
    put(data / "ward/dataset.yaml", "title: T\nshape: nonsense\n")

    assert len(ids(open_dataset("pubmedqa"))) == 2
    assert {"medqa", "ward"}.isdisjoint(known_specs(data))
    assert "this dataset is left out" in capsys.readouterr().err
    for name in ("medqa", "ward"):
        with pytest.raises(ConfigError, match=name):
            open_dataset(name)


def test_an_official_test_group_is_one_of_every_dataset_that_names_its_kind(data: Path) -> None:
    put(Path("abstracts.csv"), "pmid,text\n21645374,One.\n21645374.0,Two.\n7,Three.\n")
    dataset = open_dataset("abstracts.csv")

    places = [dataset.split_of(row, SplitConfig()) for row in dataset.examples()]  # type: ignore[arg-type]

    assert places[:2] == ["test", "test"]
    assert not [row for row in dataset.in_split("train", SplitConfig()) if row.group != "7"]


def test_an_agreement_without_a_name_goes_by_the_datasets(data: Path) -> None:
    put(data / "icu/dataset.yaml", CREDENTIALED)
    put(data / "icu/notes.jsonl", NOTES)

    with pytest.raises(DataError, match="under the data use agreement 'icu'"):
        open_dataset("icu")
    assert len(ids(open_dataset("icu", accepted=("icu",)))) == 3


def test_credentialed_data_never_come_from_the_hub(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    put(data / "icu/dataset.yaml", CREDENTIALED + "hub: {id: someone/leaked}\n")

    with pytest.raises(DataError, match="icu: no files in"):
        open_dataset("icu", accepted=("icu",))


def test_declared_terms_and_test_ids_stand_beside_the_data(data: Path) -> None:
    declared = "title: T\nshape: local\nlicence: CC-BY-4.0\naccess: open\ntest_ids: held_out.txt\n"
    put(data / "mine/dataset.yaml", declared)
    put(data / "mine/held_out.txt", "1\n2\n")
    put(data / "mine/notes.jsonl", NOTES)

    dataset = open_dataset("mine")

    assert (dataset.term.access, dataset.term.licence) == ("open", "CC-BY-4.0")
    assert dataset.test_ids == {"1", "2"}


def test_a_wrong_declaration_points_at_its_line(data: Path) -> None:
    path = put(data / "mine/dataset.yaml", "title: T\nshape: local\naccess: secret\n")

    with pytest.raises(ConfigError) as caught:
        open_dataset("mine")

    assert caught.value.message.startswith(f"{path}:3: access: input should be 'open', ")


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("columns: {group: patient, prompt: x}", "1: columns: the shape local does not read"),
        ("shape: pubmedqa\ncolumns: {group: p}", "2: columns: the shape pubmedqa does not read"),
        ("shape: rubrics\ncolumns: {cut: {}}", "2: columns: the shape rubrics does not read cut"),
        ("shape: columns\ncolumns: {answers: [letter]}", "2: columns: the shape columns does not"),
    ],
)
def test_columns_that_a_shape_does_not_go_by_are_refused(
    data: Path, declared: str, told: str
) -> None:
    """A patient that is named and not read would stand in two splits without a word."""
    path = put(data / "mine/dataset.yaml", declared)

    with pytest.raises(ConfigError) as caught:
        open_dataset("mine")

    assert caught.value.message.startswith(f"{path}:{told}")
    assert caught.value.fix == "correct the line(s) above; docs/datasets.md shows good ones"


def test_a_group_alone_may_be_said_of_the_user_s_own_columns(data: Path) -> None:
    put(data / "mine/dataset.yaml", "columns: {group: ward}")
    put(data / "mine/notes.jsonl", '{"question": "Q?", "answer": "A.", "ward": "7b"}\n')

    (example,) = open_dataset("mine").examples()

    assert isinstance(example, Example)
    assert (example.group, example.completion) == ("7b", "A.")


def test_missing_test_ids_are_a_data_error(data: Path) -> None:
    put(data / "mine/dataset.yaml", "title: T\nshape: local\ntest_ids: gone.txt\n")
    put(data / "mine/notes.jsonl", NOTES)

    with pytest.raises(DataError, match=r"no such file of test ids: .*/mine/gone\.txt"):
        open_dataset("mine")


# Adding


def test_a_release_is_linked_under_its_name(data: Path) -> None:
    path = put(Path.cwd() / "downloads/whatever.json", RELEASE)

    line = add_dataset("pubmedqa", path, None, None)

    assert line.startswith(
        "pubmedqa: 2 rows (1,000 in the full release) of shape pubmedqa "
        "(columns QUESTION, CONTEXTS, LONG_ANSWER, final_decision); linked into "
    )
    link = data / "pubmedqa/ori_pqal.json"
    assert link.is_symlink()
    assert link.resolve() == path
    assert len(ids(open_dataset("pubmedqa"))) == 2


def test_a_zipped_release_stays_zipped() -> None:
    path = put(Path.cwd() / "downloads/whatever.json.gz", RELEASE)

    add_dataset("pubmedqa", path, None, None)

    assert len(ids(open_dataset("pubmedqa"))) == 2


def test_ones_own_data_get_a_declaration(data: Path) -> None:
    path = put(Path("exports/notes.jsonl"), NOTES)

    line = add_dataset("ward-7", path, "CC-BY-4.0", "non-commercial")

    assert line.startswith("ward-7: 3 rows of shape local")
    dataset = open_dataset("ward-7")
    assert (dataset.term.licence, dataset.term.access) == ("CC-BY-4.0", "non-commercial")
    assert ("ward-7", "ward-7", "?", "non-commercial: CC-BY-4.0", "here") in describe_datasets()


def test_ones_own_data_get_a_language_and_no_other_identity(data: Path) -> None:
    add_dataset("ward-7", put(Path("notes.jsonl"), NOTES), None, None, ["de", "fr"])
    add_dataset("ward-8", Path("notes.jsonl"), None, None)
    told, untold = open_dataset("ward-7"), open_dataset("ward-8")

    assert (told.term.language, untold.term.language) == (("de", "fr"), ())
    assert "language: de, fr" in describe_dataset("ward-7")
    assert replace(told, spec=untold.spec).parent.identity == told.parent.identity
    for code, hint in (("German", "en and de are"), ("DE", "'de'"), ("gsw_CH", "'gsw'")):
        with pytest.raises(ConfigError, match=f"'{code}' is no ISO 639 code of.*{hint}"):
            add_dataset("ward-9", Path("notes.jsonl"), None, None, [code])


def test_the_language_of_each_dataset_of_the_catalog_is_known() -> None:
    assert {name: spec.language for name, spec in known_specs().items() if not spec.language} == {}


def test_ones_own_data_are_private_by_default() -> None:
    add_dataset("ward-7", put(Path("notes.jsonl"), NOTES), None, None)

    assert open_dataset("ward-7").term.access == "private"
    assert list(sample_texts("ward-7")) == []


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("pubmedqa", "nowhere.json", "no such data file or folder: nowhere.json"),
        ("pubmedqa", "rows.jsonl", "the files do not parse as pubmedqa: all rows are left out"),
        ("pubmedqa", "empty", "empty: has no files like ori_pqal.json, **/pqa_labeled/*.parquet"),
        ("ward", "odd.jsonl", "most as 'no known columns'"),
        ("ward", "none.jsonl", "the files do not parse as ward: they are empty"),
    ],
)
def test_what_cannot_be_added_is_a_data_error(name: str, path: str, message: str) -> None:
    put(Path("rows.jsonl"), NOTES)
    put(Path("odd.jsonl"), '{"a": 1}')
    put(Path("none.jsonl"), "")
    Path("empty").mkdir()

    with pytest.raises(DataError) as caught:
        add_dataset(name, Path(path), None, None)

    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "licence", "access"),
    [("a b", None, None), ("../up", None, None), ("pubmedqa", "MIT", None), ("x", None, "secret")],
)
def test_what_is_wrong_in_the_words_is_a_config_error(
    name: str, licence: str | None, access: str | None
) -> None:
    with pytest.raises(ConfigError):
        add_dataset(name, put(Path("notes.jsonl"), NOTES), licence, access)


def test_a_users_file_in_the_data_folder_is_never_replaced(data: Path) -> None:
    theirs = put(data / "pubmedqa/ori_pqal.json", RELEASE)

    with pytest.raises(DataError, match=r"ori_pqal\.json is there already"):
        add_dataset("pubmedqa", put(Path("other.json"), RELEASE), None, None)
    assert not theirs.is_symlink()


def test_the_description_beside_a_file_is_its_own(data: Path) -> None:
    put(Path("icu/dataset.yaml"), "title: T\nshape: columns\naccess: open\nlicence: MIT\n"
        "columns: {completion: body}\n")  # fmt: skip

    line = add_dataset("icu", put(Path("icu/a.csv"), "body\nText.\n"), None, None)

    assert "1 row of shape columns (columns body)" in line
    assert open_dataset("icu").term.access == "open"


def test_a_description_beside_a_release_tightens_its_terms(data: Path) -> None:
    put(Path("own/dataset.yaml"), "title: T\nshape: pubmedqa\nlicence: contract\n")
    put(Path("own/ori_pqal.json"), RELEASE)

    add_dataset("pubmedqa", Path("own"), None, None)

    term = open_dataset("pubmedqa").term
    assert (term.access, term.licence) == ("private", "contract")


def test_what_was_added_before_is_read_too_and_said(data: Path) -> None:
    add_dataset("ward", put(Path("january.jsonl"), NOTES), None, None)

    line = add_dataset("ward", put(Path("february.jsonl"), NOTES), None, None)

    assert line.endswith(
        "linked into " + str(data / "ward, beside january.jsonl, which is read, too")
    )
    assert len(ids(open_dataset("ward"))) == 6


def test_data_that_lie_in_their_place_stay_there(data: Path) -> None:
    theirs = put(data / "ward/notes.jsonl", NOTES)
    linked = put(Path("linked.jsonl"), NOTES)
    add_dataset("linked", linked, None, None)

    add_dataset("ward", data / "ward", None, None)
    add_dataset("linked", data / "linked", None, None)

    assert not theirs.is_symlink()
    assert (data / "linked/linked.jsonl").resolve() == linked.resolve()
    assert len(ids(open_dataset("ward"))) == len(ids(open_dataset("linked"))) == 3


def test_a_link_that_leads_nowhere_is_no_missing_row(data: Path) -> None:
    for name in ("a", "b"):
        add_dataset("ward", put(Path(f"{name}.jsonl"), NOTES), None, None)
    Path("b.jsonl").unlink()

    with pytest.raises(DataError, match=r"ward/b\.jsonl leads to no file"):
        open_dataset("ward")


def test_a_link_that_leads_to_itself_never_had_rows(capsys: pytest.CaptureFixture[str]) -> None:
    put(Path("ward/a.jsonl"), NOTES)
    Path("ward/self.jsonl").symlink_to("self.jsonl")

    assert len(ids(open_dataset("ward"))) == 3
    assert "self.jsonl" in capsys.readouterr().err


def test_a_link_to_a_folder_is_said_not_to_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    put(Path("2024/a.jsonl"), NOTES)
    put(Path("ward/b.jsonl"), NOTES)
    Path("ward/2024").symlink_to(Path("2024").resolve())

    assert open_dataset("ward").left_out == ("2024",)
    assert "ward: not read, for they are no data files: 1 (2024)" in capsys.readouterr().err


# Describing


def test_a_description_says_terms_and_files(data: Path) -> None:
    lines = describe_dataset("pubmedqa")

    assert lines[0] == "pubmedqa: PubMedQA"
    assert "licence: MIT (open)" in lines
    files = "ori_pqal.json, **/pqa_labeled/*.parquet"
    assert f"raw files, also gzipped: {files}" in lines
    assert f"found: hub; its folder is {data / 'pubmedqa'}" in lines


def test_open_rows_at_hand_are_shown(data: Path) -> None:
    assert list(sample_texts("pubmedqa")) == []

    put(data / "pubmedqa/ori_pqal.json", RELEASE)

    assert len(list(sample_texts("pubmedqa"))) == 2
    assert len(list(sample_texts("synthetic_radiology"))) == 3


def test_access_steps_are_said_for_restricted_data(data: Path) -> None:
    lines = describe_dataset("mimic_iv_note_radiology")

    assert "agreement: mimic-iv-note" in lines
    steps = lines[lines.index("how to get it:") + 1 :]
    assert [line.split(".")[0] for line in steps[:-1]] == [f"  {n}" for n in range(1, 7)]
    assert "CITI" in steps[1]
    assert str(data / "mimic_iv_note_radiology") in steps[4]
    assert steps[5].endswith("--accept-terms mimic-iv-note")
    assert steps[6] == "homepage: https://physionet.org/content/mimic-iv-note/"


def test_a_description_says_where_its_fields_come_from() -> None:
    lines = describe_dataset("asclepius")

    assert "  prompt: {note|patient}⏎⏎Question: {question}" in lines
    assert "  metadata: task" in lines
    assert "rows of the full release: 158,114" in lines
    assert "written by a program or a model: yes" in lines
    assert "official splits: train, validation, test" in describe_dataset("wikitext")
    assert "official splits: test, by the ids in pubmedqa_test_ids.txt" in (
        describe_dataset("pubmedqa")
    )


def test_rows_of_restricted_data_are_never_shown(data: Path) -> None:
    header = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"
    put(data / "mimic_iv_note_discharge/discharge.csv.gz", f"{header}1-DS-1,1,2,DS,1,,,Secret\n")

    assert list(sample_texts("mimic_iv_note_discharge")) == []
    assert not [line for line in describe_dataset("mimic_iv_note_discharge") if "Secret" in line]


# Fetching


def test_credentialed_data_are_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert "  1. name it, and its rows are generated" in describe_dataset("synthetic_vitals")
    with pytest.raises(DataError, match="mimic_cxr: medllm may not or cannot download it"):
        fetch_dataset("mimic_cxr")

    assert "how to get it:\n  1. Make an account" in capsys.readouterr().out


def test_what_is_on_no_hub_comes_with_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError):
        fetch_dataset("medquad")

    assert "git clone https://github.com/abachaa/MedQuAD" in capsys.readouterr().out


def test_offline_nothing_is_fetched() -> None:
    with pytest.raises(DataError, match="the hub is not asked") as caught:
        fetch_dataset("medmcqa")
    assert caught.value.exit_code == 3


def test_an_unknown_dataset_cannot_be_fetched() -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'medmcq'"):
        fetch_dataset("medmcq")


# Folders and archives


def test_a_folder_of_text_is_read_with_its_folders(data: Path) -> None:
    put(Path("ward/b/note.txt"), "Second.")
    put(Path("ward/a/note.txt"), "First.")
    put(Path("ward/.cache/note.txt"), "Not a note.")

    line = add_dataset("ward", Path("ward"), None, None)

    assert line.startswith("ward: 2 rows of shape local (columns text)")
    assert ids(open_dataset("ward")) == ids(open_dataset("./ward")) == [
        "ward/a/note", "ward/b/note",
    ]  # fmt: skip


def test_text_files_beside_tables_are_read_unless_they_are_about_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(Path("release/note/notes.csv"), "id,text\n1,Text.\n")
    put(Path("release/history_and_physical.txt"), "A letter.")
    about = ["LICENSE.txt", "README.first.txt", "SHA256SUMS.txt", "notes.docx"]
    for name in [*about, "note/scan.png"]:
        put(Path("release") / name, "Terms.")

    dataset = open_dataset("release")

    assert ids(dataset) == ["release/history_and_physical", "release/note/notes.csv/1"]
    assert dataset.left_out == tuple(about)
    said = "release: not read, for they are no data files: 4 (LICENSE.txt, README.first.txt, "
    assert said in capsys.readouterr().err


def test_files_of_one_folder_with_the_same_ids_keep_their_rows() -> None:
    for year in (2023, 2024):
        rows = "".join(f"{n},note {n} of {year}\n" for n in range(3))
        put(Path(f"ward/{year}.csv"), f"id,text\n{rows}")
    both = ids(open_dataset("ward"))
    with zipfile.ZipFile("ward.zip", "w") as archive:
        for year in (2023, 2024):
            archive.write(f"ward/{year}.csv", f"{year}.csv")
    zipped = ids(open_dataset("ward.zip"))
    Path("ward/2023.csv").unlink()

    assert len(set(both)) == 6
    assert zipped == both
    assert ids(open_dataset("ward")) == both[3:]


def test_a_row_without_an_id_keeps_its_own_whichever_other_files_are_there() -> None:
    put(Path("ward/b.csv"), "text\none\n")
    alone = ids(open_dataset("ward"))
    put(Path("ward/a.csv"), "text\none\ntwo\n")

    assert ids(open_dataset("ward"))[2:] == alone == ["ward/b.csv/1"]


def test_a_group_by_the_place_of_a_file_is_the_same_wherever_the_folder_lies(data: Path) -> None:
    spec = "title: T\nshape: columns\ncolumns: {group: __file__, group_pattern: 'p(\\d+)/'}\n"
    for folder in (Path("hosp2024/ward"), Path("ward")):
        put(folder / "dataset.yaml", spec)
        put(folder / "p17/note.txt", "A note.")
    add_dataset("ward", Path("ward"), None, None)
    groups = [row.group for ref in ("hosp2024/ward", "./ward", "ward")
              for row in open_dataset(ref).examples() if isinstance(row, Example)]  # fmt: skip

    assert groups == ["17", "17", "17"]


def test_the_file_that_is_named_as_its_folder_needs_no_more_in_its_ids() -> None:
    put(Path("ward/ward.csv"), "text\none\n")
    put(Path("ward/2024/ward.note.csv"), "text\ntwo\n")
    put(Path("quiz/quiz.csv"), "text\none\n")
    alone = ids(open_dataset("quiz"))
    put(Path("quiz/other.csv"), "text\none\n")

    assert alone == ["quiz/1"]
    assert ids(open_dataset("quiz")) == ["quiz/other.csv/1", "quiz/1"]
    assert len(set(ids(open_dataset("ward")))) == 2

    put(Path("quiz/quiz.jsonl"), '{"text": "one"}')
    assert ids(open_dataset("quiz"))[1:] == ["quiz/quiz.csv/1", "quiz/quiz.jsonl/1"]


def test_a_folder_with_its_declaration_is_added_as_declared(data: Path) -> None:
    put(Path("icu/dataset.yaml"), "title: T\nshape: columns\naccess: open\nlicence: MIT\n"
        "columns: {completion: body}\n")  # fmt: skip
    put(Path("icu/a.csv"), "body\nText.\n")

    assert "1 row of shape columns (columns body)" in add_dataset("icu", Path("icu"), None, None)
    assert open_dataset("icu").term.access == "open"
    with pytest.raises(ConfigError, match="has its licence and language declared already"):
        add_dataset("icu", Path("icu"), "MIT", None)


def test_several_files_of_a_pattern_are_read_and_others_left_alone(data: Path) -> None:
    for name in ("train.json", "dev.json", "test.json"):
        rows = [
            {"question": f"{name} {n}?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": n}
            for n in (1, 4)
        ]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        put(
            data / f"medmcqa/{name}.gz" if name == "dev.json" else data / f"medmcqa/{name}", content
        )

    dataset = open_dataset("medmcqa")

    assert [path.name for path in dataset.files] == ["dev.json.gz", "train.json"]
    assert ids(dataset) == [
        "medmcqa/dev-1", "medmcqa/dev-2", "medmcqa/train-1", "medmcqa/train-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "spelt_out"),
    [
        ("a.csv", ["a.csv", "a.csv.gz"]),
        ("{a,b}_{c,d}.x", ["a_c.x", "a_d.x", "b_c.x", "b_d.x",
                           "a_c.x.gz", "a_d.x.gz", "b_c.x.gz", "b_d.x.gz"]),
        ("*", ["*"]),
    ],
)  # fmt: skip
def test_braces_are_spelt_out(pattern: str, spelt_out: list[str]) -> None:
    assert alternatives(pattern) == spelt_out


def test_a_folder_of_the_same_name_does_not_hide_a_dataset() -> None:
    (Path.cwd() / "synthetic_radiology").mkdir()

    recipe = load_recipe(None, ["prepare.datasets=[synthetic_radiology, ./synthetic_radiology]"])

    assert recipe.prepare is not None
    name, path = recipe.prepare.datasets
    assert open_dataset(name).spec.synthetic
    assert path == str(Path.cwd() / "synthetic_radiology")


@pytest.mark.parametrize(
    "files", ["[]", "['']", "['../secret/*']", "['/etc/*']", "['" + "{a,b,c,d}" * 14 + "']"]
)
def test_patterns_name_files_below_the_datas_own_folder(files: str) -> None:
    put(Path("d/a.jsonl"), NOTES)
    put(Path("d/dataset.yaml"), f"title: T\nshape: local\nfiles: {files}\n")

    with pytest.raises(ConfigError, match=r"dataset\.yaml:3: files"):
        open_dataset("./d")


def test_what_never_ends_is_no_data_file() -> None:
    os.mkfifo("a.jsonl")

    for path in ("a.jsonl", "/dev/zero"):
        with pytest.raises(DataError, match="is no regular file"):
            open_dataset(f"./{path}" if path == "a.jsonl" else path)


def test_a_file_whose_name_is_not_utf_8_is_refused_and_said_where_it_is_no_data() -> None:
    name = os.fsdecode(b"caf\xe9")
    put(Path("d/a.jsonl"), NOTES)
    put(Path(f"d/{name}.pdf"), "no data")

    assert open_dataset("./d").left_out == ("caf\\xe9.pdf",)
    put(Path(f"d/{name}.jsonl"), NOTES)
    with pytest.raises(DataError, match="the name of the file is not UTF-8"):
        open_dataset("./d")


def test_a_file_that_nobody_may_read_is_a_data_error(lock: Callable[[Path], None]) -> None:
    put(Path("d/a.jsonl"), NOTES)
    put(Path("d/b.jsonl"), NOTES)
    lock(Path("d/b.jsonl"))

    with pytest.raises(DataError, match=r"b\.jsonl: cannot be read: permission denied"):
        open_dataset("./d")


@pytest.mark.parametrize("prompt", ["{question:9999999999}", "{question!r}", "{dc:title}"])
def test_a_template_holds_columns_alone(prompt: str) -> None:
    put(Path("d/a.jsonl"), NOTES)
    put(Path("d/dataset.yaml"), f"title: T\nshape: columns\ncolumns: {{prompt: '{prompt}'}}\n")

    with pytest.raises(ConfigError, match="a column's name has no"):
        open_dataset("./d")


def test_where_else_a_dataset_lies_decides_nothing_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    spec = DatasetSpec(title="Rows", shape="local")
    elsewhere = spec.model_copy(update={"hub": HubSource(id="org/rows")})
    here, there = (Dataset("rows", one, (tmp_path / "rows.jsonl",)) for one in (spec, elsewhere))

    assert there.term.hub == "org/rows"
    assert there.parent.identity == here.parent.identity


def test_columns_that_no_file_has_are_named(data: Path) -> None:
    put(Path("ward/dataset.yaml"), "title: T\nshape: columns\ncolumns: {id: nr, images: [scan], "
        "metadata: [Ward, bed], completion: '{body|text}', group: '{case|}', "
        "cut: {bed: {column: body, pattern: 'bed .'}}}\n")  # fmt: skip
    put(Path("ward/a.csv"), "body,x\nText.,1\n")
    put(Path("ward/b.csv"), "BODY,WARD,x\nMore text.,3,1\n")

    line = add_dataset("ward", Path("ward"), None, None)

    assert "; no file has nr, case, scan, which dataset.yaml names; linked into" in line


def test_a_form_of_a_release_that_another_one_hides_is_said(data: Path) -> None:
    row = {"QUESTION": "q?", "CONTEXTS": ["c"], "final_decision": "yes", "LONG_ANSWER": "a"}
    add_dataset("pubmedqa", put(Path("ori_pqal.json"), json.dumps({"1": row})), None, None)
    put(data / "pubmedqa/pqa_labeled/train.parquet", "")

    line = add_dataset("pubmedqa", Path("ori_pqal.json"), None, None)

    assert line.endswith("not read, as another form of the release goes before: "
                         "1 (pqa_labeled/train.parquet)")  # fmt: skip
