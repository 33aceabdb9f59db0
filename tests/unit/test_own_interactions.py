from pathlib import Path

import pytest

from medllm.clinical.rules.knowledge import Knowledge
from medllm.data.readers.reviewed import load_knowledge
from medllm.errors import ConfigError


def load(tmp_path: Path, text: str, name: str = "pairs.csv") -> Knowledge:
    (tmp_path / name).write_text(text)
    return load_knowledge(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "drug_1,drug_2,severity,text,source\nCoumadin,Advil,high,bleeding,Ward 3\n",
        "Drug A;Drug B;Level;Effect;Reference\nwarfarin;ibuprofen;Major;bleeding;Ward 3\n",
        "RXCUI 1,RXCUI 2,Severity,Message,Source\n11289,5640,major,bleeding,Ward 3\n",
    ],
)
def test_a_table_of_pairs_joins_the_rules_by_name_or_rxcui(text: str, tmp_path: Path) -> None:
    known = load(tmp_path, text)

    own = [row for row in known.rows("interactions") if row["source"] == "own: Ward 3"]
    assert [(row["a"], row["b"], row["severity"]) for row in own] == [
        (["warfarin"], ["ibuprofen"], "major")
    ]
    assert own[0]["mechanism"] == "bleeding"
    basis = known.basis(own[0])
    assert (basis.source, basis.source_kind, basis.may_block()) == ("Ward 3", "guideline", True)


def test_an_id_of_ones_own_is_kept_and_a_class_is_named(tmp_path: Path) -> None:
    known = load(tmp_path, "id,drug1,drug2,severity\nmine.1,methotrexate,NSAIDs,none\n")

    row = known.tables["interactions"]["mine.1"]
    assert (row["a"], row["b"], row["severity"]) == (["methotrexate"], ["NSAID"], "none")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("warfarine,ibuprofen,major", "no drug 'warfarine'; did you mean 'warfarin'?"),
        ("99999999,ibuprofen,major", "no drug of RxCUI 99999999"),
        ("warfarin,ibuprofen,gruesome", "no severity 'gruesome'"),
        ("warfarin,,major", "no value for drug_2"),
        ("Augmentin,warfarin,major", "name one of them"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(row: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"drug_1,drug_2,severity\nwarfarin,aspirin,major\n{row}\n")

    assert "pairs.csv:3: " in raised.value.message and fault in raised.value.message


def test_two_rows_that_disagree_on_a_pair_are_named_and_the_same_twice_is_one(
    tmp_path: Path,
) -> None:
    head = "drug_1,drug_2,severity\nwarfarin,ibuprofen,major\n"
    with pytest.raises(ConfigError, match=r"pairs.csv:3: says another thing than .*pairs.csv:2"):
        load(tmp_path, f"{head}Advil,Coumadin,minor\n")

    known = load(tmp_path, f"{head}Advil,Coumadin,major\n")

    own = [row for row in known.rows("interactions") if row["source"] == "own: pairs.csv"]
    assert len(own) == 1
