from pathlib import Path

import pytest

from medllm.clinical.rules.files import read_rules
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Table
from medllm.errors import ConfigError

PAIRS = Table(
    name="pairs",
    columns=frozenset({"a", "b", "c"}),
    needed=frozenset({"a"}),
    lists=frozenset({"c"}),
    faults=lambda row, tables: ["a is b"] if row["a"] == row.get("b") else [],
)
SOURCES = "sources:\n  L: {title: A label, kind: label, year: 2020}\n"


def rules(tmp_path: Path, text: str, base: Knowledge | None = None) -> Knowledge:
    (tmp_path / "own.yaml").write_text(SOURCES + text)
    return read_rules(tmp_path, (PAIRS,), base or Knowledge({}, {}))


def test_rows_are_read_with_their_sources_and_who_reviewed_the_file(tmp_path: Path) -> None:
    text = "reviewed_by: A. B.\npairs:\n- {id: one, a: x, source: L, verified: true}\n"

    known = rules(tmp_path, text)
    (row,) = known.rows("pairs")

    basis = known.basis(row)
    assert (basis.source, basis.source_kind, basis.year) == ("A label", "label", 2020)
    assert basis.verified and basis.reviewed_by == "A. B."
    assert basis.may_block()


def test_a_row_of_a_hospital_wins_over_ours_of_the_same_id(tmp_path: Path) -> None:
    ours = rules(tmp_path, "pairs:\n- {id: one, a: x, source: L, verified: true}\n")

    theirs = rules(
        tmp_path,
        "pairs:\n- {id: one, a: y, source: L, verified: false}\n"
        "- {id: two, a: z, source: L, verified: true}\n",
        ours,
    )

    assert [row["a"] for row in theirs.rows("pairs")] == ["y", "z"]
    assert not theirs.basis(theirs.tables["pairs"]["one"]).may_block()
    assert theirs.basis(theirs.tables["pairs"]["one"]).may_block(block_unverified=True)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{a: x, source: L, verified: true}", "no id"),
        ("{id: one, a: x, verified: true}", "no source"),
        ("{id: one, a: x, source: LL, verified: true}", "unknown source 'LL'"),
        ("{id: one, source: L, verified: true}", "no a"),
        ("{id: one, a: x, source: L}", "no verified"),
        ("{id: one, a: x, source: L, verified: 'yes'}", "verified must be bool"),
        ("{id: one, a: x, aa: x, source: L, verified: true}", "unknown column 'aa'"),
        ("{id: one, a: x, b: x, source: L, verified: true}", "a is b"),
        ("{id: one, a: x, c: y, source: L, verified: true}", "c must be a list of texts"),
        ("{id: one, a: x, c: [y, 3], source: L, verified: true}", "c must be a list of texts"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(row: str, fault: str, tmp_path: Path) -> None:
    good = "{id: good, a: x, source: L, verified: false}"

    with pytest.raises(ConfigError) as raised:
        rules(tmp_path, f"pairs:\n- {good}\n- {row}\n")

    assert "own.yaml:5: " in raised.value.message
    assert fault in raised.value.message


def test_an_id_that_is_there_twice_is_named(tmp_path: Path) -> None:
    row = "- {id: one, a: x, source: L, verified: true}\n"

    with pytest.raises(ConfigError, match=r"own.yaml:5: one: this id is there twice"):
        rules(tmp_path, f"pairs:\n{row}{row}")


def test_an_unknown_table_and_a_source_of_no_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"own.yaml:3: no table 'pears'"):
        rules(tmp_path, "pears: []\n")
    (tmp_path / "own.yaml").write_text("sources: {L: {title: A page, kind: rumour}}\n")
    with pytest.raises(ConfigError, match="source 'L': needs a title and one kind of"):
        read_rules(tmp_path, (PAIRS,), Knowledge({}, {}))


def test_a_source_of_anothers_name_changes_no_rule_of_theirs(tmp_path: Path) -> None:
    row = "pairs:\n- {id: one, a: x, source: L, verified: true}\n"
    ours = rules(tmp_path, row)
    assert rules(tmp_path, row, ours).sources == ours.sources

    (tmp_path / "own.yaml").write_text("sources:\n  L: {title: A memo, kind: secondary}\n" + row)
    with pytest.raises(ConfigError, match="own.yaml:1: source 'L' is there already, and another"):
        read_rules(tmp_path, (PAIRS,), ours)
