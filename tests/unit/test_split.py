"""One split for all: a group's place depends on its id alone."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medllm.data.example import Example
from medllm.data.groups import build_group
from medllm.data.split import SPLITS, UNDATED, SplitConfig, rank, split_by_time, split_of
from medllm.errors import ConfigError


def note(number: int, patient: int, dataset: str = "notes") -> Example:
    return Example(f"{dataset}/{number}", dataset, f"p{patient}", (), "text")


def test_no_group_is_cut() -> None:
    places: dict[str, set[str]] = {}
    for number in range(3000):
        row = note(number, number % 300)
        places.setdefault(row.group, set()).add(split_of(row, SplitConfig()))

    assert all(len(splits) == 1 for splits in places.values())


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.25, 0.05), (0.0, 0.2)])
def test_shares_are_about_what_was_asked_for(validation: float, test: float) -> None:
    config = SplitConfig(validation=validation, test=test)

    counts = Counter(split_of(note(n, n), config) for n in range(10_000))

    expected = {"train": 1 - validation - test, "validation": validation, "test": test}
    for split in SPLITS:
        assert counts[split] / 10_000 == pytest.approx(expected[split], abs=0.012)


def test_a_place_never_changes() -> None:
    """Golden values: another hash would move patients from test to training between releases."""
    places = "".join(split_of(note(n, n), SplitConfig())[0] for n in range(24))

    assert places == "tttttvttttttvtttttvtvttt"  # v for validation
    assert rank("pubmedqa/21645374", 0) == pytest.approx(0.08003052853126486, abs=1e-15)
    assert rank("pubmedqa/16418930", 0) == pytest.approx(0.8602217304861398, abs=1e-15)


def test_another_seed_moves_groups() -> None:
    one = [split_of(note(n, n), SplitConfig(seed=0)) for n in range(200)]
    other = [split_of(note(n, n), SplitConfig(seed=1)) for n in range(200)]

    assert one != other


def test_other_shares_for_validation_leave_the_test_set_alone() -> None:
    rows = [note(n, n) for n in range(2000)]
    small = {row.id for row in rows if split_of(row, SplitConfig(validation=0.05)) == "test"}
    large = {row.id for row in rows if split_of(row, SplitConfig(validation=0.3)) == "test"}

    assert small == large


def test_official_test_ids_are_the_test_set_and_nothing_else_is() -> None:
    rows = [note(n, n) for n in range(1000)]
    official = {f"p{n}" for n in range(0, 1000, 2)}

    for seed in (0, 1, 2):
        places = {row.group: split_of(row, SplitConfig(seed=seed), official) for row in rows}
        assert {group for group, place in places.items() if place == "test"} == official
        held = sum(place == "validation" for place in places.values())
        assert held == pytest.approx(50, abs=25)


def test_a_patient_of_two_datasets_is_one_patient() -> None:
    def visit(patient: int, dataset: str) -> Example:
        return Example(f"{dataset}/1", dataset, str(patient), (), "text", group_kind="patient")

    pairs = [(visit(n, "a"), visit(n, "b")) for n in range(300)]

    assert all(split_of(a, SplitConfig()) == split_of(b, SplitConfig()) for a, b in pairs)


def test_an_official_test_group_is_one_for_every_dataset() -> None:
    row = Example("b/1", "b", "PMID 021645374", (), "text", group_kind="article")
    keys = {build_group("21645374", "article").key}
    by_time = SplitConfig(by="time")

    assert row.group_key not in keys  # the prefix goes where a row is read, not here
    row = replace(row, group=build_group(row.group, "article").id)
    assert split_of(row, SplitConfig(), (), keys) == split_of(row, by_time, (), keys) == "test"


def test_the_row_numbers_of_two_datasets_are_two_groups() -> None:
    pairs = [(note(n, n, "a"), note(n, n, "b")) for n in range(300)]

    assert any(split_of(a, SplitConfig()) != split_of(b, SplitConfig()) for a, b in pairs)


@pytest.mark.parametrize(
    "shares",
    [{"test": -0.1}, {"validation": 1.0}, {"test": 0.7, "validation": 0.7}, {"test": 0.5,
     "validation": 0.5}, {"test": math.nan}, {"validation": math.inf}],
)  # fmt: skip
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"validation|test"):
        SplitConfig(**shares)  # type: ignore[arg-type]


def test_ranks_are_spread_evenly() -> None:
    ranks = [rank(str(n), 0) for n in range(10_000)]

    assert 0 <= min(ranks) < 0.01
    assert 0.99 < max(ranks) < 1
    assert sum(ranks) / len(ranks) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("by", "said", "expected"),
    [
        (None, "dev", "validation"),
        (None, "TEST", "test"),
        (None, "training", "train"),
        ("official", "test", "test"),
    ],
)
def test_the_sources_own_split_wins_unless_a_ratio_is_asked_for(
    by: str | None, said: str, expected: str
) -> None:
    rows = [Example(f"d/{n}", "d", str(n), (), "text", metadata={"split": said}) for n in range(40)]
    config = SplitConfig.model_validate({"by": by})
    by_ratio = {split_of(row, SplitConfig(by="ratio")) for row in rows}

    assert {split_of(row, config) for row in rows} == {expected}
    assert by_ratio == {"train", "validation", "test"}
    assert split_of(rows[0], config, {"0"}) == "test"


def test_no_single_row_knows_a_split_by_time() -> None:
    row = Example("d/1", "d", "1", (), "text")

    with pytest.raises(ConfigError, match="only `medllm prepare` can split by time"):
        split_of(row, SplitConfig(by="time"))
    assert split_of(row, SplitConfig(by="time"), {"1"}) == "test"


def test_by_time_a_group_goes_where_its_latest_row_goes() -> None:
    groups = np.array([1, 1, 2, 3, 4, 5], np.uint64)
    times = np.array([10, 50, 40, 30, 20, UNDATED])

    split = split_by_time(groups, times, SplitConfig(by="time", test=0.25, validation=0.25))

    assert [SPLITS[number] for number in split] == ["test", "test", "validation", *["train"] * 3]
