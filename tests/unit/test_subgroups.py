"""Scores by subgroup: exact intervals, bands, and what no row says."""

from typing import Any

import pytest

from medllm.errors import ConfigError
from medllm.evaluate.analysis.outcomes import Outcomes, outcomes_of
from medllm.evaluate.analysis.shown import subgroups_of
from medllm.evaluate.analysis.subgroups import score_subgroups
from medllm.measures.intervals import estimate_proportion

SCORE = {"model": "base", "task": "mine"}


def outcomes(rights: list[bool], facts: list[dict[str, Any]]) -> Outcomes:
    records = [
        {"id": str(n), "answer": "a" if right else "b", "target": "a", "metadata": known}
        for n, (right, known) in enumerate(zip(rights, facts, strict=True))
    ]
    found = outcomes_of(records, SCORE)
    assert found
    return found


def names(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["group"]: row["items"] for row in rows}


@pytest.mark.parametrize("field", ["metadata.sex", "sex"])
def test_each_group_has_its_size_its_score_and_an_exact_interval(field: str) -> None:
    sexes = ["female"] * 40 + ["male"] * 10 + [""] * 2
    found = outcomes([n % 4 > 0 for n in range(52)], [{"sex": each} for each in sexes])

    rows = score_subgroups([found], [field])

    assert names(rows) == {"female": 40, "male": 10, "not known": 2}
    women = estimate_proportion(30, 40)
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"]) == (0.75, women.low, women.high)
    assert [row["few"] for row in rows] == [False, True, True]
    assert sum(row["items"] for row in rows) == 52
    columns, shown = subgroups_of(rows)
    assert columns == ["task", "by", "group", "n", "base"]
    assert shown[1] == ["mine", "sex", "male", "10 few", "70.0\n34.8–93.3"]


def test_ages_are_in_bands_in_their_order() -> None:
    ages = [3, 17, 18, 39.5, 40, 64, 65, 79, 80, 101, None]
    found = outcomes([True] * 11, [{"age": each} for each in ages])

    assert names(score_subgroups([found], ["metadata.age"])) == {
        "below 18": 2, "18 to below 40": 2, "40 to below 65": 2, "65 to below 80": 2,
        "80 and over": 2, "not known": 1,
    }  # fmt: skip


def test_ages_of_a_csv_file_are_in_bands_and_odd_ones_stay() -> None:
    ages = ["17", "67", " 67 ", "70 years", "81yo", ">89", "unknown", "", float("nan"), 5]
    found = outcomes([True] * 10, [{"Age": each} for each in ages])

    assert names(score_subgroups([found], ["metadata.Age"])) == {
        "below 18": 2, "65 to below 80": 3, "80 and over": 1, ">89": 1, "unknown": 1,
        "not known": 2,
    }  # fmt: skip


def test_blanks_around_a_value_make_no_other_group() -> None:
    found = outcomes([True] * 3, [{"sex": each} for each in ("F", " F", "F ")])

    assert names(score_subgroups([found], ["sex"])) == {"F": 3}


def test_other_numbers_are_in_quarters_and_few_values_stay() -> None:
    found = outcomes([True] * 40, [{"length": n, "pages": n % 3, "new": n < 5} for n in range(40)])

    assert list(names(score_subgroups([found], ["metadata.length"])).values()) == [10, 10, 10, 10]
    assert names(score_subgroups([found], ["metadata.pages"])) == {"0": 14, "1": 13, "2": 13}
    assert names(score_subgroups([found], ["metadata.new"])) == {"no": 35, "yes": 5}
    assert names(score_subgroups([found], ["target"])) == {"a": 40}


def test_losses_have_subgroups_and_one_item_has_no_interval() -> None:
    records = [
        {"id": str(n), "logprob": -10.0 * n, "tokens": 10, "metadata": {"site": site}}
        for n, site in enumerate(["a", "a", "b"])
    ]
    found = outcomes_of(records, SCORE)
    assert found

    first, second = score_subgroups([found], ["site"])

    assert (first["value"], second["value"], second["low"]) == (0.5, 2.0, None)
    assert subgroups_of([second])[1][0][-1] == "2.000\nno interval"


def test_a_field_that_no_row_has_is_an_error_that_names_those_there() -> None:
    found = outcomes([True], [{"sex": "female"}])

    with pytest.raises(ConfigError, match="no item of these tasks has it") as raised:
        score_subgroups([found], ["metadata.gender"])
    assert raised.value.fix == "name one of: target, metadata.sex"
