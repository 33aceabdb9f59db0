"""What holds for the readers whatever they are given."""

import csv
import gzip
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm.data.example import Example, Rejected
from medllm.data.readers.rows import READERS, read_rows
from medllm.data.registry.datasets import build_dataset, known_specs
from medllm.data.shapes import Columns, find_shape
from medllm.errors import DataError

quick = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.lists(st.text("abcdefgh_ 12", min_size=1, max_size=8), min_size=1, max_size=5)
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
# of any depth, as of `st.recursive`, which takes twice the time
VALUE: st.SearchStrategy[Any] = st.deferred(
    lambda: PLAIN | st.lists(VALUE, max_size=3) | st.dictionaries(TEXT, VALUE, max_size=3)
)
ROWS = st.lists(st.dictionaries(TEXT.filter(bool), VALUE, min_size=1, max_size=4), max_size=5)


def write(name: str, data: bytes) -> Path:
    path = Path(name)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@quick
@given(ROWS, st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_jsonl_comes_back_as_it_was(rows: list[dict[str, Any]], name: str) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    assert list(read_rows(write(name, lines.encode()))) == rows


@quick
@given(ROWS, st.sampled_from(["a.json", "a.json.gz"]), st.sampled_from([None, 1]))
def test_json_comes_back_as_it_was(
    rows: list[dict[str, Any]], name: str, indent: int | None
) -> None:
    document = json.dumps(rows, ensure_ascii=False, indent=indent)

    assert list(read_rows(write(name, document.encode()))) == rows


@quick
@given(NAMES, st.data(), st.sampled_from(["a.csv", "a.csv.gz", "a.tsv"]))
def test_csv_comes_back_as_it_was(names: list[str], data: st.DataObject, name: str) -> None:
    names = list(dict.fromkeys(name.strip() or "x" for name in names))
    # a row of one empty field is a blank line, which is no row
    field = TEXT.map(lambda text: re.sub("[\r\x1b]", "", text) or "-")  # escapes tell Japanese
    rows = data.draw(st.lists(st.lists(field, min_size=len(names), max_size=len(names))))
    plain = Path("plain.csv")
    with plain.open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if name == "a.tsv" else ","
        csv.writer(file, delimiter=delimiter).writerows([names, *rows])

    read = list(read_rows(write(name, plain.read_bytes())))

    assert read == [dict(zip(names, row, strict=True)) for row in rows]


@settings(quick, max_examples=100)
@given(
    st.binary(max_size=300), st.sampled_from(sorted(READERS)),
    st.sampled_from(["plain", "gzipped", "named so"]),
)  # fmt: skip
def test_any_bytes_are_rows_or_a_data_error(data: bytes, kind: str, zipped: str) -> None:
    path = Path(f"a{kind}" if zipped == "plain" else f"a{kind}.gz")
    path.write_bytes(gzip.compress(data) if zipped == "gzipped" else data)

    try:
        for row in read_rows(path):
            assert isinstance(row, dict)
    except DataError as problem:
        assert str(path) in problem.message


JSON_BITS = st.lists(
    st.sampled_from(['{', '}', '[', ']', '"a"', ':', ',', '1', 'null', '"\\ud800"', '\n', '1e999',
                     '{"a": 1}', "NaN", "9" * 5000]),
    max_size=20,
).map("".join)  # fmt: skip


@settings(quick, max_examples=100)
@given(JSON_BITS, st.sampled_from(["a.json", "a.jsonl"]))
def test_any_json_is_rows_or_a_data_error(text: str, name: str) -> None:
    try:
        for row in read_rows(write(name, text.encode())):
            assert isinstance(row, dict)
    except DataError as problem:
        assert name in problem.message


@quick
@given(st.binary(min_size=1, max_size=60), st.integers(0, 400))
def test_a_damaged_archive_is_rows_or_a_data_error(noise: bytes, place: int) -> None:
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.csv", "id,text\n1,a\n")
        archive.writestr("two.txt", "Some text. " * 20)
    data = bytearray(Path("a.zip").read_bytes())
    data[place : place + len(noise)] = noise

    try:
        list(read_rows(write("a.zip", bytes(data))))
    except DataError as problem:
        assert "a.zip" in problem.message


WORDS = st.sampled_from(
    ["question", "QUESTION", "sent1", "options", "choices", "answer", "answer_idx", "cop", "label",
     "opa", "opb", "ending0", "ending1", "text", "note", "prompt", "completion", "messages", "exp",
     "CONTEXTS", "context", "final_decision", "LONG_ANSWER", "id", "__key__", "subject_id"]
)  # fmt: skip
SHAPES = ["columns", "local", "multiple_choice", "pubmedqa"]


DATASETS = [build_dataset(name, spec, ()) for name, spec in sorted(known_specs().items())]


@settings(quick, max_examples=200)
@given(st.dictionaries(WORDS, VALUE, max_size=8))
def test_any_row_is_an_example_or_a_rejection(row: dict[str, Any]) -> None:
    for shape in SHAPES:
        read = find_shape(shape)("set", 1, row, Columns())

        assert isinstance(read, Example | Rejected), shape
        assert read.id.startswith("set/"), shape
        if isinstance(read, Example):
            assert read.completion, shape
            assert read.group, shape
            assert read.target is None or read.target in read.choices, shape
    for dataset in DATASETS:
        read = dataset.read(1, {**row, "number": 1})

        assert isinstance(read, Example | Rejected), dataset.name
