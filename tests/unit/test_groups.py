"""Groups: which column names the patient, and when two ids are one."""

import math
from decimal import Decimal
from typing import Any

import pytest

from medllm.data.groups import Group, build_group, find_group, fold, likely_identifiers, read_id
from medllm.data.left_out import LeftOut, NotText


@pytest.mark.parametrize(
    "value", [7003, 7003.0, "7003", "7003.0", "7003 ", " 7003.", Decimal("7003.00")]
)
def test_a_number_is_one_id_however_it_is_written(value: Any) -> None:
    assert read_id(value) == "7003"


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        math.inf,
        "",
        " ",
        "NaN",
        "None",
        "null",
        "NaT",
        "<NA>",
        r"\N",
        True,
        [],
        Decimal("nan"),
    ],
)
def test_what_is_no_id_is_none(value: Any) -> None:
    assert read_id(value) == ""


@pytest.mark.parametrize("value", [[7, 8], {"$oid": "5f"}])
def test_what_is_not_text_is_no_id_either(value: Any) -> None:
    with pytest.raises(NotText):
        read_id(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("007", "007"),
        ("7.5", "7.5"),
        (7.5, "7.5"),
        ("A-7", "A-7"),
        (1e22, "1" + "0" * 22),
        ("12.0.1", "12.0.1"),
    ],
)
def test_all_else_stays_as_the_file_says(value: Any, expected: str) -> None:
    assert read_id(value) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"Patient ID": 1, "hadm_id": 2}, ("1", "patient")),
        ({"PatientID": 1}, ("1", "patient")),
        ({"patient-id": 1}, ("1", "patient")),
        ({"MRN": "00012"}, ("00012", "patient")),
        ({"person_id": 1.0}, ("1", "patient")),
        ({"subject_id": "1", "note_id": "1-DS-2"}, ("1", "patient")),
        ({"patient": "p1"}, ("p1", "patient")),
        ({"patient_id": None, "hadm_id": 22}, ("22", "encounter")),
        ({"patient_id": math.nan, "MRN": "7"}, ("7", "patient")),
        ({"encounter_id": "e"}, ("e", "encounter")),
        ({"note_id": "n", "encounter_id": "e"}, ("e", "encounter")),
        ({"PMID": "PMID: 33492400", "patient_id": 3}, ("33492400", "article")),
        ({"pubmed_id": "https://pubmed.ncbi.nlm.nih.gov/33492400/"}, ("33492400", "article")),
        ({"group": "g", "patient_id": 1}, ("g", "group")),
    ],
)  # fmt: skip
def test_the_coarsest_column_that_holds_something_names_the_group(
    row: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert find_group(row) == expected


@pytest.mark.parametrize("row", [{"id": 7}, {"patient_id": "nan"}, {"subject": "anatomy"}])
def test_what_names_no_group(row: dict[str, Any]) -> None:
    assert find_group(row) is None


@pytest.mark.parametrize(
    ("one", "other"), [("007", "7"), ("ab 12", "AB12"), ("１２", "12"), ("0", "00")]
)  # noqa: RUF001
def test_two_spellings_of_an_id_meet(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_kinds_keep_the_same_number_apart() -> None:
    assert Group("7", "patient").key != Group("7", "encounter").key


def test_a_group_that_is_a_text_is_kept_as_its_digest() -> None:
    long = build_group("a long note " * 20, "patient")

    assert len(long.id) == 32
    assert "note" not in long.id


def test_columns_that_look_like_identifiers_are_told_by_their_last_word() -> None:
    names = (
        "id",
        "idx",
        "text",
        "paid",
        "valid",
        "case_no",
        "FallNr",
        "KIS-ID",
        "patientennummer",
        "label",
        "__key__",
        "Row Number",
    )

    assert likely_identifiers(names) == ("case_no", "FallNr", "KIS-ID", "patientennummer")


@pytest.mark.parametrize("identity", ["1.23457E+11", "1,2346E+11", "1E+12"])
def test_a_patient_whose_number_a_spreadsheet_rounded_is_left_out(identity: str) -> None:
    with pytest.raises(LeftOut, match="an id that a spreadsheet rounded"):
        find_group({"patient_id": identity})


@pytest.mark.parametrize("identity", ["1E5", "1e+05", "E+11", "123456789012", "1.2E+1"])
def test_other_ids_with_an_e_are_ids(identity: str) -> None:
    assert find_group({"patient_id": identity}) == Group(identity, "patient")
