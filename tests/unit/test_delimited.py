"""Tables as spreadsheets of any country write them."""

import gzip
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from medllm.data.readers.rows import Layout, read_rows, unusual_forms
from medllm.errors import DataError

ROWS = [
    {"Fall-Nr": "007", "text": "Fieber 38,5 °C; µg statt mg", "summary": "groß, “gut”"},
    {"Fall-Nr": "008", "text": 'er sagte "nein",\nging', "summary": "kein Müller"},
    {"Fall-Nr": "009", "text": "", "summary": "1.234,56"},
]


def table(delimiter: str, end: str = "\r\n") -> str:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set('";,\t|\n') else cell

    lines = [delimiter.join(ROWS[0])] + [delimiter.join(map(quoted, r.values())) for r in ROWS]
    return end.join(lines) + end


def rows_of(name: str, content: bytes) -> list[dict[str, Any]]:
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return list(read_rows(Path(name)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "A.CSV.gz"])
def test_every_delimiter_and_encoding_gives_the_same_rows(
    delimiter: str, encoding: str, name: str
) -> None:
    assert rows_of(name, table(delimiter).encode(encoding)) == ROWS


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"'])
def test_excels_own_line_names_the_delimiter(line: str) -> None:
    assert rows_of("a.csv", f"{line}\r\n{table(';')}".encode("cp1252")) == ROWS


def test_what_is_unusual_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows_of("ward.csv", table(";").encode("cp1252"))
    list(read_rows(Path("ward.csv")))
    rows_of("usual.csv", table(",").encode())

    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("ward.csv: read as cp1252, fields parted by a semicolon")


def test_what_is_unusual_in_an_archive_is_known_too() -> None:
    with ZipFile("wards.zip", "w") as archive:
        archive.writestr("north/ward.csv", table(";").encode("cp1252"))
        archive.writestr("usual.csv", table(",").encode())

    rows = list(read_rows(Path("wards.zip")))

    assert [row["text"] for row in rows[:3]] == [row["text"] for row in ROWS]
    assert unusual_forms(Path("wards.zip"), Layout()) == {
        "wards.zip/north/ward.csv": "cp1252, fields parted by a semicolon"
    }


@pytest.mark.parametrize(
    "content",
    [
        "id,text\n1,a; b; c\n2,d\n",  # semicolons in texts
        "id,text\n1,a;b\n2,c;d\n",
        "text\nno delimiter at all; or so\n",
        "id,dose;unit\n1,5;mg\n",
    ],
)
def test_a_comma_stays_the_delimiter(content: str) -> None:
    first, *rows = (line.split(",") for line in content.splitlines())

    assert rows_of("a.csv", content.encode()) == [
        dict(zip(first, row, strict=True)) for row in rows
    ]


def test_a_header_with_commas_in_its_names_is_parted_by_what_fits_all_rows() -> None:
    content = "dose, mg;note, short\n5,5;a, b, c\n7;d\n"

    assert rows_of("a.csv", content.encode()) == [
        {"dose, mg": "5,5", "note, short": "a, b, c"}, {"dose, mg": "7", "note, short": "d"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("пациент здоров", "cp1251"), ("übergrößen für Ärzte", "cp437"), ("ασθενής", "cp1253"),
     ("患者は健康です", "shift_jis"), ("患者健康", "gb18030")],
)  # fmt: skip
def test_what_is_not_western_is_not_guessed_at(text: str, encoding: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv:2: not UTF-8 text") as caught:
        rows_of("a.csv", f"id,text\n1,{text}\n".encode(encoding))
    assert "`encoding: " in caught.value.fix


def test_the_remedy_names_no_encoding_that_the_file_is_not_of() -> None:
    with pytest.raises(DataError) as caught:
        rows_of("a.csv", "id,text\n1,пациент здоров\n".encode("cp1251"))
    assert "cp1252" not in caught.value.fix and "cp1251 Russian" in caught.value.fix


@pytest.mark.parametrize(("text", "encoding"), [("ból głowy", "cp1250"), ("piept și", "cp1250")])
def test_words_of_the_east_of_europe_are_not_western(text: str, encoding: str) -> None:
    content = f"id,text\n1,{text.replace('ș', 'ş')}\n".encode(encoding)

    with pytest.raises(DataError, match=r"a\.csv:2: not UTF-8 text"):
        rows_of("a.csv", content)


@pytest.mark.parametrize(
    "text",
    ["Fiebre de 38ºC", "38 ºc", "nºde", "1ºA", "Tºaxilar", "M±SD", "mean±sd", "cm³H2O", "m³de"],
)
def test_signs_beside_letters_stay_western(text: str) -> None:
    assert rows_of("a.csv", f"id,text\n1,{text}\n".encode("cp1252")) == [{"id": "1", "text": text}]


@pytest.mark.parametrize("word", ["Größe", "café", "Überweisung"])
def test_a_file_of_two_encodings_is_refused_as_that(word: str) -> None:
    content = f"id;text\n1;{word}\n".encode() + f"2;{word}\n".encode("cp1252")

    with pytest.raises(DataError, match=r"a\.csv:3: .* it is of two encodings"):
        rows_of("a.csv", content)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "iso2022_jp"])
@pytest.mark.parametrize("text", ["headache", "頭痛"])
def test_bytes_that_pass_for_utf_8_are_refused_with_their_encoding(
    encoding: str, text: str
) -> None:
    content = f"id,text\n1,{text}\n2,{text}\n".encode(encoding)
    if content.isascii() and b"\x1b" not in content and b"\0" not in content:
        assert rows_of("a.csv", content)[0] == {"id": "1", "text": text}
        return

    with pytest.raises(DataError, match="not UTF-8 text") as caught:
        rows_of("a.csv", content)
    assert f"`encoding: {encoding}`" in caught.value.fix


def test_utf_32_is_told_by_its_mark() -> None:
    assert rows_of("a.csv", "id,text\n1,Müller\n".encode("utf-32")) == [
        {"id": "1", "text": "Müller"}
    ]


def test_utf_8_is_not_read_as_what_a_description_says_in_error() -> None:
    Path("a.csv").write_text("id,text\n1,Größe\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"a\.csv: is UTF-8, and would be read as cp1252"):
        list(read_rows(Path("a.csv"), Layout(encoding="cp1252")))
    Path("a.csv").write_text("id,text\n1,size\n", encoding="utf-8")
    assert list(read_rows(Path("a.csv"), Layout(encoding="cp1252"))) == [
        {"id": "1", "text": "size"}
    ]


def test_the_letters_that_an_encoding_decides_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rows_of("letters.csv", "id;text\n1;příznaky léčba\n".encode("cp1250"))

    assert "(its other letters: øíéè)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", b"PK\x03\x04\x14\x00", "a workbook"),
        ("a.txt", b"{\\rtf1 M\\'fcller}", "RTF"),
        ("a.txt", b"\xef\xbb\xbfMSH|^~|", "HL7 messages"),
        ("a.txt", b"\n<!DOCTYPE html><p>5 mg", "HTML"),
        ("a.csv", b"<table><tr><td>007", "HTML"),
        ("a.jsonl", b"%PDF-1.7", "PDF"),
    ],
)
def test_what_is_no_text_is_refused_whatever_its_name(name: str, content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=f"{name}: its name says text, its content is {what}"):
        rows_of(name, content)


def test_names_of_columns_are_composed_and_values_are_as_they_are() -> None:
    content = "id,Gro\u0308ße\n1,Mu\u0308ller\n".encode()

    assert rows_of("a.csv", content) == [{"id": "1", "Größe": "Mu\u0308ller"}]


def test_a_western_letter_far_down_is_seen() -> None:
    content = "id;text\n" + "1;plain\n" * 30_000 + "2;Müller\n"

    assert rows_of("a.csv", content.encode("latin-1"))[-1] == {"id": "2", "text": "Müller"}


def test_columns_without_a_name_do_not_hide_each_other() -> None:
    assert rows_of("a.csv", b"id;;\n1;a;b\n") == [{"id": "1", "": "a", "column 3": "b"}]


def test_a_row_that_is_too_wide_names_what_parts_it() -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: more fields than columns") as caught:
        rows_of("a.csv", b"id;text\n1;fine\n2;a;b\n3;c\n")
    assert caught.value.fix == "quote the field that holds a semicolon"
