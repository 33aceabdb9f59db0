"""Samples depend on ids and seed, never on the order of rows."""

import random
from collections.abc import Iterator

import pytest

from medllm.data.example import Example
from medllm.data.sample import largest_remainder, take_accepted, take_lowest


def rows(count: int) -> list[Example]:
    return [Example(f"d/{n}", "d", str(n), (), f"text {n}") for n in range(count)]


@pytest.mark.parametrize(
    ("shares", "total", "quotas"),
    [
        ({"a": 60, "b": 30, "c": 10}, 512, {"a": 307, "b": 154, "c": 51}),
        ({"a": 1, "b": 1, "c": 1}, 100, {"a": 34, "b": 33, "c": 33}),
        ({"a": 0.7, "b": 0.3}, 10, {"a": 7, "b": 3}),
        ({"a": 70, "b": 30}, 1, {"a": 1, "b": 0}),
        ({"a": 0.1, "b": 0.2}, 3, {"a": 1, "b": 2}),
        ({"only": 5}, 7, {"only": 7}),
    ],
)
def test_quotas_are_the_largest_remainders(
    shares: dict[str, float], total: int, quotas: dict[str, int]
) -> None:
    assert largest_remainder(shares, total) == quotas


@pytest.mark.parametrize("total", [1, 7, 100, 511, 512, 1023])
def test_quotas_sum_to_the_total(total: int) -> None:
    shares = {"a": 33.3, "b": 33.3, "c": 33.3, "d": 0.1}

    assert sum(largest_remainder(shares, total).values()) == total


def test_quotas_do_not_depend_on_the_order_of_shares() -> None:
    one = largest_remainder({"a": 1, "b": 1, "c": 1}, 50)
    other = largest_remainder({"c": 1, "b": 1, "a": 1}, 50)

    assert one == other


def test_the_order_of_rows_changes_nothing() -> None:
    ordered, shuffled = rows(500), rows(500)
    random.Random(1).shuffle(shuffled)

    assert take_lowest(ordered, 50, seed=0) == take_lowest(shuffled, 50, seed=0)
    assert take_lowest(ordered, 50, seed=0) != take_lowest(ordered, 50, seed=1)


def test_a_larger_sample_holds_the_smaller() -> None:
    assert take_lowest(rows(500), 100, seed=0)[:20] == take_lowest(rows(500), 20, seed=0)


def test_fewer_rows_than_asked_for_are_all_there_is() -> None:
    assert {row.id for row in take_lowest(rows(5), 50, seed=0)} == {f"d/{n}" for n in range(5)}


def even(batch: list[Example]) -> list[bool]:
    return [int(row.group) % 2 == 0 for row in batch]


def test_what_is_not_accepted_is_passed_over() -> None:
    taken = take_accepted(lambda: iter(rows(500)), even, 100, seed=0)

    assert len(taken) == 100
    assert all(int(row.group) % 2 == 0 for row in taken)
    ranked = take_lowest(rows(500), 500, seed=0)
    assert taken == [row for row in ranked if int(row.group) % 2 == 0][:100]


def test_the_stream_is_read_again_where_few_are_accepted() -> None:
    reads = 0

    def stream() -> Iterator[Example]:
        nonlocal reads
        reads += 1
        yield from rows(5000)

    def rare(batch: list[Example]) -> list[bool]:
        return [int(row.group) % 100 == 0 for row in batch]

    taken = take_accepted(stream, rare, 50, seed=0)

    assert {row.id for row in taken} == {f"d/{100 * n}" for n in range(50)}
    assert reads > 1


def test_fewer_come_back_where_there_are_no_more() -> None:
    assert len(take_accepted(lambda: iter(rows(30)), even, 50, seed=0)) == 15
    assert take_accepted(lambda: iter([]), even, 5, seed=0) == []
    assert take_accepted(lambda: iter(rows(30)), even, 0, seed=0) == []


def test_an_id_that_comes_twice_is_taken_once() -> None:
    double = [*rows(20), *rows(20)]

    taken = take_accepted(lambda: iter(double), lambda batch: [True] * len(batch), 40, seed=0)

    assert sorted(row.id for row in taken) == sorted(row.id for row in rows(20))
