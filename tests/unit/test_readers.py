"""Raw files as they come: rows, or an error that names the place."""

import gzip
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medllm.data.example import read_jsonl, write_jsonl
from medllm.data.readers import documents, files
from medllm.data.readers import rows as readers
from medllm.data.readers.rows import FILE, KEY, NUMBER, PART, SPLIT, Layout, as_written, read_rows
from medllm.errors import DataError

ROWS = [{"id": "1", "text": "Müller"}, {"id": "2", "text": "a, b"}]


def rows_of(name: str, content: str | bytes) -> list[dict[str, Any]]:
    data = content.encode() if isinstance(content, str) else content
    path = Path(name)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return list(read_rows(path))


def refusal(name: str, content: str | bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        rows_of(name, content)
    assert caught.value.exit_code == 3
    return caught.value


JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)

FILES = {
    "a.json": json.dumps(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2),
    "lines.json": JSONL,
    "a.jsonl": JSONL,
    "spaced.jsonl": f"\n{JSONL}\n\n",
    "last.jsonl": JSONL.rstrip(),
    "dos.jsonl": JSONL.replace("\n", "\r\n"),
    "a.csv": 'id,text\n1,Müller\n2,"a, b"\n',
    "dos.csv": 'id,text\r\n1,Müller\r\n2,"a, b"\r\n',
    "a.tsv": "id\ttext\n1\tMüller\n2\ta, b\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_kind_of_file_gives_the_same_rows(name: str, mark: str, suffix: str) -> None:
    assert rows_of(name + suffix, mark + FILES[name]) == ROWS


def test_endings_may_be_upper_case() -> None:
    assert rows_of("A.JSONL", JSONL) == ROWS


def test_parquet_gives_the_same_rows() -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), "a.parquet")

    assert list(read_rows(Path("a.parquet"))) == ROWS


def test_a_mapping_of_ids_keeps_them_in_the_rows() -> None:
    content = json.dumps({"21645374": {"QUESTION": "a"}, "16418930": {"QUESTION": "b"}})

    assert rows_of("ori.json", content) == [
        {KEY: "21645374", "QUESTION": "a"}, {KEY: "16418930", "QUESTION": "b"},
    ]  # fmt: skip


def test_a_mapping_of_splits_keeps_them_in_the_rows() -> None:
    content = json.dumps({"train": [{"id": 1}, {"id": 2}], "test": [{"id": 3}]})

    assert rows_of("a.json", content) == [
        {SPLIT: "train", "id": 1}, {SPLIT: "train", "id": 2}, {SPLIT: "test", "id": 3},
    ]  # fmt: skip


def test_numbers_are_floats_not_decimals() -> None:
    assert json.dumps(rows_of("a.json", '[{"x": 1.5, "n": 3}]')) == '[{"x": 1.5, "n": 3}]'


def test_csv_keeps_quotes_and_line_breaks() -> None:
    content = 'id,text\n1,"said ""no"",\nthen left"\n2,\n'

    assert rows_of("a.csv", content) == [
        {"id": "1", "text": 'said "no",\nthen left'}, {"id": "2", "text": ""},
    ]  # fmt: skip


def test_a_csv_row_that_is_too_short_has_empty_fields_which_is_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The rest of a note that was cut at its line break looks so."""
    assert rows_of("short.csv", "id,text\n0,a\n\n1\n2\n") == [
        {"id": "0", "text": "a"}, {"id": "1", "text": None}, {"id": "2", "text": None},
    ]  # fmt: skip

    said = capfd.readouterr().err
    assert "2 rows with fewer fields than columns, the first on line 4" in said


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_long_fields_are_whole(name: str) -> None:
    text = "word " * 60_000
    content = {
        "a.csv": f"id,text\n1,{text}\n",
        "a.tsv": f"id\ttext\n1\t{text}\n",
        "a.jsonl": json.dumps({"id": "1", "text": text}),
        "a.json": json.dumps([{"id": "1", "text": text}]),
    }

    assert rows_of(name, content[name]) == [{"id": "1", "text": text}]


def test_nul_bytes_do_no_harm() -> None:
    assert rows_of("a.csv", "id,text\n1,a\x00b\n") == [{"id": "1", "text": "a\x00b"}]
    assert rows_of("a.jsonl", r'{"text": "a\u0000b"}') == [{"text": "a\x00b"}]
    assert refusal("b.jsonl", '{"text": "a\x00b"}').message.startswith("b.jsonl:1: not JSON")


OWN = [{"id": "1", SPLIT: {"a": 1}, FILE: 3, PART: [1], NUMBER: "x"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps(OWN[0])),
        ("lines.json", f"{json.dumps(OWN[0])}\n" * 2),
        ("a.json", json.dumps(OWN)),
        ("split.json", json.dumps({"train": OWN})),
        ("ids.json", json.dumps({"1": OWN[0]})),
        ("a.csv", f"id,{SPLIT},{FILE},{PART},{NUMBER}\n1,test,x,y,z\n"),
    ],
)
def test_no_column_of_a_file_passes_for_where_its_rows_come_from(name: str, content: str) -> None:
    marks = {FILE, PART, NUMBER, *(() if name == "split.json" else (SPLIT,))}

    rows = rows_of(name, content)

    assert {row["id"] for row in rows} == {"1"}
    assert all(marks.isdisjoint(row) for row in rows)
    assert [row.get(SPLIT) for row in rows] == ["train" if name == "split.json" else None] * len(
        rows
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_an_empty_file_has_no_rows(name: str) -> None:
    if name == "a.json":
        assert "a.json: not valid JSON" in refusal(name, "").message
    else:
        assert rows_of(name, "") == []


# What is wrong, and where


def test_bad_json_is_named_with_its_line() -> None:
    problem = refusal("a.jsonl", '{"a": 1}\n\n{"a": 2\n{"a": 3}\n')

    assert problem.message.startswith("a.jsonl:3: not JSON (")
    assert problem.fix == "correct or remove the line"


@pytest.mark.parametrize("line", ["[1, 2]", "5", '"text"', "null"])
def test_a_line_must_be_an_object(line: str) -> None:
    assert refusal("a.jsonl", f'{{"a": 1}}\n{line}\n\n{{"a": 2}}\n{{"a": \n').message == (
        "a.jsonl:2: a row must be a JSON object; more lines are wrong: 1 (5)"
    )


@pytest.mark.parametrize("content", ["[1, 2]", '["a"]', "[[{}]]", '[{"a": 1}, null]'])
def test_an_item_of_a_list_must_be_an_object(content: str) -> None:
    assert "a row must be a JSON object" in refusal("a.json", content).message


@pytest.mark.parametrize("content", ['{"a": "text"}', '"text"', "5", '{"a": ["text"]}'])
def test_json_that_holds_no_rows_is_refused(content: str) -> None:
    assert refusal("a.json", content).message.startswith("a.json: ")


@pytest.mark.parametrize("content", ['[{"a": 1}, {"a"', '{"x": {"a": 1}', '[{"a": 1}} ', "{]"])
def test_broken_json_is_refused(content: str) -> None:
    assert refusal("a.json", content).message.startswith("a.json: not valid JSON: ")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_other_encodings_are_refused(name: str) -> None:
    text = {
        "a.json": '[{"text": "Müller"}]',
        "a.jsonl": '{"a": 1}\n\n{"text": "Müller"}\n',
        "a.txt": "ok\n\nMüller\n",
    }

    problem = refusal(name, text[name].encode("latin-1"))

    assert problem.message == f"{name}:{1 if name == 'a.json' else 3}: not UTF-8 text"
    assert problem.fix.endswith("or `encoding: cp1252` in a dataset.yaml beside it")


@pytest.mark.parametrize("encoding", ["cp1250", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", '[{"text": "žluť"}]'), ("b.json", '{"1": {"text": "žluť"}}'),
     ("a.jsonl", '{"text": "žluť"}')],
)  # fmt: skip
def test_json_of_an_encoding_that_is_named(name: str, content: str, encoding: str) -> None:
    Path(name).write_bytes(content.encode(encoding))

    (row,) = read_rows(Path(name), Layout(encoding=encoding))

    assert row["text"] == "žluť"


def test_json_that_is_not_of_the_encoding_that_is_named() -> None:
    Path("a.json").write_bytes(b'[{"text": "\x81"}]')

    with pytest.raises(DataError, match=r"a\.json: not cp1252 text: "):
        [*read_rows(Path("a.json"), Layout(encoding="cp1252"))]


def test_an_encoding_that_is_named_is_used() -> None:
    Path("a.txt").write_bytes("žluť\n".encode("cp1250"))
    Path("a.csv").write_bytes("id,text\n1,žluť\n".encode("cp1250"))

    assert [*read_rows(Path("a.txt"), Layout(encoding="cp1250"))] == [{"text": "žluť\n"}]
    assert [*read_rows(Path("a.csv"), Layout(encoding="cp1250"))] == [{"id": "1", "text": "žluť"}]


def test_a_row_with_too_many_fields_is_named() -> None:
    problem = refusal("a.csv", "id,text\n1,fine\n2,a, b\n")

    assert problem.message == "a.csv:3: more fields than columns"
    assert problem.fix == "quote the field that holds a comma"


def test_a_table_of_a_hundred_thousand_columns_is_read() -> None:
    names = ",".join(f"c{number}" for number in range(100_000))

    rows = rows_of("a.csv", f"{names}\n{names}\n")

    assert len(rows[0]) == 100_000


def test_an_open_quote_is_refused() -> None:
    assert refusal("a.csv", 'id,text\n1,"never closed\n').message.startswith("a.csv:2: not valid")


def test_an_open_quote_does_not_swallow_the_rest_of_the_file() -> None:
    rows = "".join(f"{n},{'word ' * 1000}\n" for n in range(4000))

    problem = refusal("a.csv", f'id,text\n1,fine\n2,"never closed\n{rows}')

    assert problem.message.startswith("a.csv:3: not valid CSV: field larger than field limit")
    assert problem.fix == "check the quotes of the row that begins on this line"


def test_the_line_of_a_bad_row_counts_the_lines_within_fields() -> None:
    problem = refusal("a.csv", 'id,text\n1,"two\nlines"\n2,"three\n\nlines"\n3,"x" y\n')

    assert problem.message.startswith("a.csv:7: not valid CSV: ")


def test_old_line_ends_are_line_ends() -> None:
    assert rows_of("a.csv", "id,text\r1,a\r2,b\r") == [
        {"id": "1", "text": "a"}, {"id": "2", "text": "b"},
    ]  # fmt: skip


def test_two_columns_of_one_name_are_refused() -> None:
    assert refusal("a.csv", "id,text,text\n1,a,b\n").message == (
        "a.csv:1: columns 2 and 3 have the same name"
    )


def test_columns_without_a_name_are_rows_too() -> None:
    assert rows_of("a.csv", ",text\n0,a\n") == [{"": "0", "text": "a"}]


def test_json_nested_beyond_reason_is_refused() -> None:
    assert refusal("a.jsonl", '{"a": ' + "[" * 100_000).message.startswith("a.jsonl:1: not JSON")


@pytest.mark.parametrize("opening", ['{"' + "k" * 60 + '": ', "[" + " " * 12, '["[]", '])
def test_a_document_nested_a_hundred_thousand_deep_is_refused_at_once(opening: str) -> None:
    problem = refusal("a.json", '[{"a": ' + opening * 100_000)

    assert problem.message == "a.json: an item: lists or mappings nested more than 100 deep"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_nesting_is_counted_over_pieces_and_not_in_strings(size: int) -> None:
    content = json.dumps([{"a": ["[{", 'an "[" in \\', {"[": "\\"}]}, {"b": "{" * 40}]).encode()
    nesting = readers.Nesting()

    pieces = [content[at : at + size] for at in range(0, len(content), size)]

    assert max(map(nesting.deepest_in, pieces)) == 4


def test_an_error_of_json_does_not_quote_the_file() -> None:
    problem = refusal("a.json", '[{"note": John Smith has HIV}]')

    assert problem.message == "a.json: not valid JSON: lexical error: invalid char in json text."


def test_a_list_below_a_split_holds_objects_only() -> None:
    content = json.dumps({"train": [{"id": 1}, "lost"]})

    assert "item 2: a row must be a JSON object" in refusal("a.json", content).message


def test_a_mapping_of_ids_holds_objects_only() -> None:
    content = json.dumps({"1": {"QUESTION": "a"}, "2": "lost"})

    assert refusal("a.json", content).message == "a.json: entry 2 holds no row"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_a_truncated_gzip_is_refused(name: str) -> None:
    whole = gzip.compress(FILES[name].encode() * (1 if name == "a.json" else 50), mtime=0)
    path = Path(f"{name}.gz")
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(DataError, match=r"its compressed content is damaged"):
        list(read_rows(path))


@pytest.mark.parametrize("position", [0, 5, 20, -6])
def test_a_damaged_gzip_is_refused(position: int) -> None:
    content = "".join(json.dumps({"id": n, "text": f"row {n * n}"}) + "\n" for n in range(500))
    data = bytearray(gzip.compress(content.encode(), mtime=0))
    data[position] ^= 0xFF
    Path("a.jsonl.gz").write_bytes(data)

    if position == 5:  # the time in the header: nothing is lost
        assert len(list(read_rows(Path("a.jsonl.gz")))) == 500
        return
    with pytest.raises(DataError):
        list(read_rows(Path("a.jsonl.gz")))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_an_archive_is_refused(packing: int) -> None:
    content = "".join(json.dumps({"id": n, "text": f"row {n * n}"}) + "\n" for n in range(500))
    with zipfile.ZipFile("whole.zip", "w", packing) as archive:
        archive.writestr("a.jsonl", content)
    data = bytearray(Path("whole.zip").read_bytes())
    data[60:600] = bytes(540)

    assert "damaged" in refusal("a.zip", bytes(data)).message


def test_an_archive_whose_names_are_no_text_is_refused() -> None:
    with zipfile.ZipFile("whole.zip", "w") as archive:
        archive.writestr("é.jsonl", JSONL)
    data = Path("whole.zip").read_bytes().replace("é".encode(), b"\xff\xff", 1)

    assert "a.zip: the zip archive is damaged" in refusal("a.zip", data).message


def test_numbers_of_few_bits_are_what_was_written() -> None:
    """5.1 mg in 32 bits are 5.099999904632568 to Python."""
    import pyarrow
    import pyarrow.parquet

    narrow = {"a": pyarrow.float32(), "b": pyarrow.float16(), "c": pyarrow.float64()}
    table = pyarrow.table({name: pyarrow.array([5.1, None, 0.1], kind) if name != "b" else
                           pyarrow.array(np.array([5.1, np.nan, 0.1], np.float16), kind)
                           for name, kind in narrow.items()})  # fmt: skip
    pyarrow.parquet.write_table(table, "a.parquet")

    rows = list(read_rows(Path("a.parquet")))

    assert [rows[0], rows[2]] == [{"a": n, "b": n, "c": n} for n in (5.1, 0.1)]
    assert (rows[1]["a"], str(rows[1]["b"])) == (None, "nan")
    widened = [{"dose": float(np.float32(5.1)), "id": 7}, {"id": 8}]  # as datasets has them
    schema = pyarrow.schema({"dose": pyarrow.float32(), "id": pyarrow.int64()})
    assert list(as_written(widened, schema)) == [{"dose": 5.1, "id": 7}, {"id": 8}]


def test_numbers_of_few_bits_in_lists_and_objects_are_what_was_written() -> None:
    import pyarrow
    import pyarrow.parquet

    labs = [("k", pyarrow.list_(pyarrow.float32())), ("sum", pyarrow.float64())]
    kinds = {"labs": pyarrow.list_(pyarrow.struct(labs)), "none": pyarrow.list_(pyarrow.float32())}
    row = {"labs": [{"k": [5.1, None, 0.3], "sum": 0.1 + 0.2}, None], "none": None}
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([row], pyarrow.schema(kinds)), "a.parquet"
    )

    assert list(read_rows(Path("a.parquet"))) == [row]


def test_a_parquet_file_whose_text_is_not_utf_8_is_refused() -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": ["Müller"] * 9})
    pyarrow.parquet.write_table(table, "whole.parquet", compression="none")
    data = Path("whole.parquet").read_bytes().replace("ü".encode(), b"\xff\xff")

    assert "a.parquet: not a valid Parquet file" in refusal("a.parquet", data).message


def test_a_damaged_parquet_file_is_refused() -> None:
    assert "not a valid Parquet file" in refusal("a.parquet", b"PAR1 nothing PAR1").message
    assert "not a valid Parquet file" in refusal("b.parquet", b"").message


def test_a_parquet_file_with_a_damaged_page_is_refused() -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"text": f"text number {n * 7919}"} for n in range(5000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    data = bytearray(Path("a.parquet").read_bytes())
    data[4:400] = bytes(396)

    assert refusal("a.parquet", bytes(data)).message.startswith("a.parquet: not a valid Parquet")


def test_a_date_beyond_the_calendar_is_refused() -> None:
    import pyarrow
    import pyarrow.parquet

    dates = pyarrow.array([2**31 - 1], pyarrow.int32()).cast(pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"date": dates}), "a.parquet")

    with pytest.raises(DataError, match=r"a\.parquet: holds what Python cannot"):
        list(read_rows(Path("a.parquet")))


def test_an_unknown_ending_gets_the_list() -> None:
    problem = refusal("a.tex", b"PK")

    assert problem.message == "a.tex: not a data file medllm reads"
    assert problem.fix == (
        "use one of .csv, .json, .jsonl, .ndjson, .parquet, .raw, .tokens, .tsv, .txt, .xml, .zip, "
        "also .gz"
    )


@pytest.mark.parametrize(
    ("name", "fix"), [("a.XLSX", "as CSV"), ("a.pdf", "as .txt"), ("a.csv.xz", "unpack it")]
)
def test_files_that_hospitals_have_get_a_way_on(name: str, fix: str) -> None:
    assert fix in (refusal(name, b"PK").fix or "")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"no such data file: nowhere\.jsonl"):
        list(read_rows(Path("nowhere.jsonl")))


# Documents


def test_a_text_file_is_one_document() -> None:
    assert rows_of("note.txt", "First.\r\n\r\nSecond.\n") == [{"text": "First.\n\nSecond.\n"}]


@pytest.mark.parametrize(
    ("start", "texts"),
    [
        ("^", ["= A =\n", "one\n", "two\n", "= B =\n"]),
        ("^= ", ["= A =\none\n\ntwo\n", "= B =\n"]),
        (r"^\s*$", ["= A =\none\n", "two\n= B =\n"]),
    ],
)
def test_a_text_file_is_cut_where_documents_begin(start: str, texts: list[str]) -> None:
    Path("a.txt").write_text("\n= A =\none\n\ntwo\n= B =\n")

    read = [row["text"] for row in read_rows(Path("a.txt"), Layout(document_start=start))]

    assert read == texts


def test_a_zip_archive_gives_the_rows_of_its_files() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("notes/b.jsonl", JSONL)
        archive.writestr("notes/a.csv.gz", gzip.compress(FILES["a.csv"].encode()))
        archive.writestr("LICENSE", "read me")

    rows = list(read_rows(Path("a.zip")))

    names = ["notes/a.csv.gz"] * 2 + ["notes/b.jsonl"] * 2
    assert [row.pop(FILE) for row in rows] == [row.pop(PART) for row in rows] == names
    assert [row.pop(NUMBER) for row in rows] == [1, 2, 1, 2]
    assert rows == ROWS + ROWS


def test_an_error_in_a_zip_archive_names_the_file_in_it() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("notes/b.jsonl", "{}\nno\n")

    with pytest.raises(DataError, match=r"a\.zip/notes/b\.jsonl:2: not JSON"):
        list(read_rows(Path("a.zip")))


# Our own rows on disk


def test_rows_are_streamed() -> None:
    rows = read_rows(Path("big.jsonl"))
    Path("big.jsonl").write_text('{"a": 1}\nbroken\n')

    assert next(rows) == {"a": 1}


def test_what_json_cannot_hold_is_written_as_text() -> None:
    day = datetime(2024, 5, 1, tzinfo=UTC)

    assert write_jsonl(Path("a.jsonl"), [{"day": day, "raw": b"x", "half": "\ud83d"}]) == 1

    row = next(read_jsonl(Path("a.jsonl")))
    assert row["day"] == "2024-05-01 00:00:00+00:00"
    assert Path("a.jsonl").stat().st_mode & 0o777 == 0o600


# What would not end, or not fit


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test's files can reach."""
    for room in (files, documents):
        monkeypatch.setattr(room, "LONGEST_LINE", 1000)
    monkeypatch.setattr(readers, "LONGEST_ITEM", 70_000)
    monkeypatch.setattr(files, "MUCH_UNPACKED", 10_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL + '{"text": "%s"}\n' % ("word " * 400)),
        ("a.jsonl", "x" * 5000),
        ("a.csv", "id,text\n1,%s\n" % ("word " * 400)),
        ("a.txt", "word " * 400),
        ("a.xml", '<eCitation a="%s"/>' % ("word " * 400)),
    ],
)
def test_what_is_too_long_for_the_memory_is_named(name: str, content: str) -> None:
    assert "of more than 0 million characters" in refusal(name, content).message


@pytest.mark.usefixtures("small")
def test_a_document_that_never_ends_is_refused() -> None:
    Path("a.txt").write_text("line\n" * 1000)

    with pytest.raises(DataError, match="by `document_start` there is a document of more than"):
        list(read_rows(Path("a.txt"), Layout(document_start="^never")))


@pytest.mark.usefixtures("small")
def test_an_item_of_json_that_is_too_long_is_refused() -> None:
    many = [{"text": "word " * 2000} for _ in range(100)]
    assert len(rows_of("a.json", json.dumps(many))) == 100

    long = [{"text": "word " * 2000}, {"text": "word " * 100_000}]
    assert "an item of more than" in refusal("a.json", json.dumps(long)).message


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.zip"])
def test_an_archive_that_unpacks_beyond_reason_is_refused(name: str) -> None:
    content = b'{"text": ""}\n' * 100_000
    if name == "a.zip":
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jsonl", content)
    else:
        Path(name).write_bytes(gzip.compress(content))

    with pytest.raises(DataError, match=r"unpacks to 0\.0 GB and more, over 200 times its own"):
        list(read_rows(Path(name)))


@pytest.mark.parametrize("depth", [150, 900, 1_000_000])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_that_are_nested_too_deeply_are_refused(depth: int, name: str) -> None:
    row = '{"id": 1, "m": ' + "[" * depth + "]" * depth + "}"

    problem = refusal(name, f"[{row}]" if name == "a.json" else row)

    assert "nested" in problem.message or "recursion" in problem.message


@pytest.mark.parametrize("depth", [1, 50])
def test_a_nested_row_is_a_row(depth: int) -> None:
    assert len(rows_of("a.jsonl", '{"m": ' + "[" * depth + "]" * depth + "}")) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"dose": "5 mg", "dose": "50 mg"}\n'),
        ("b.jsonl", '{"text": "a", "metadata": {"dose": 5, "dose": 50}}\n'),
        ("c.json", '[{"text": "a"}, {"dose": "5 mg", "dose": "50 mg"}]'),
        ("d.json", '{"1": {"metadata": {"dose": 5, "dose": 50}}}'),
    ],
)
def test_a_key_that_is_written_twice_loses_no_value_unsaid(name: str, content: str) -> None:
    problem = refusal(name, content)

    assert "a key is written twice" in problem.message
    assert "dose" not in problem.message
