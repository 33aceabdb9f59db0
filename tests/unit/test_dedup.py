"""Digests and overlaps."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medllm.data.dedup import NGRAM, WINDOW, OverlapIndex, encode_words, fingerprint, split_words


def prints_of(text: str) -> set[int]:
    return set(fingerprint([encode_words(text)])[0].tolist())


def words(count: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [f"w{generator.randrange(10**6)}" for _ in range(count)]


def index_of(*texts: str) -> OverlapIndex:
    return OverlapIndex(*fingerprint([encode_words(text) for text in texts]))


def find(index: OverlapIndex, *texts: str, least: float = 0.5) -> list[tuple[int, int]]:
    found = index.overlaps(*fingerprint([encode_words(text) for text in texts]), least)
    return [(row, other) for row, other, _ in found]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(0, 9))
def test_a_text_has_the_same_prints_alone_and_among_others(lengths: list[int], seed: int) -> None:
    texts = [" ".join(words(length, seed + n)) for n, length in enumerate(lengths)]

    prints, counts = fingerprint([encode_words(text) for text in texts])

    parts = np.split(prints, np.cumsum(counts)[:-1])
    assert [set(part.tolist()) for part in parts] == [prints_of(text) for text in texts]
    assert all(counts >= 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
def test_a_copy_of_twenty_words_is_never_missed(before: int, after: int, seed: int) -> None:
    copied = words(NGRAM + WINDOW - 1, seed)
    one = words(before, seed + 100) + copied + words(after, seed + 200)
    other = words(after, seed + 300) + copied + words(before, seed + 400)

    assert prints_of(" ".join(one)) & prints_of(" ".join(other))


def test_case_and_punctuation_hide_no_copy() -> None:
    text = words(60)
    index = index_of(" ".join(text))

    assert find(index, "Said: " + ", ".join(text).upper() + ". More of it.") == [(0, 0)]
    assert find(index, " ".join(words(60, seed=1))) == []


def test_the_share_is_that_of_the_held_out_text() -> None:
    held_out, other = words(100), words(400, seed=1)
    index = index_of(" ".join(words(50, seed=2)), " ".join(held_out))

    quarter = " ".join(other + held_out[:25])
    most = " ".join(other + held_out[:80])

    assert find(index, quarter, most) == [(1, 1)]
    assert find(index, quarter, most, least=0.05) == [(0, 1), (1, 1)]


def test_a_phrase_of_many_held_out_rows_is_no_copy() -> None:
    phrase = " ".join(words(30))
    rows = [f"{phrase} {' '.join(words(5, seed=n))}" for n in range(1, 13)]

    assert find(index_of(*rows), phrase) == []
    assert find(index_of(rows[0]), phrase) == [(0, 0)]


def test_short_texts_are_compared_whole() -> None:
    assert find(index_of("Is it benign?"), "is it Benign", "is it benign or not") == [(0, 0)]


@pytest.mark.parametrize("held_out", [(), ("",)])
def test_nothing_held_out_overlaps_with_nothing(held_out: tuple[str, ...]) -> None:
    assert find(index_of(*held_out), "a text of some words") == []
    assert index_of("a text").overlaps(*fingerprint([]), 0.5) == []


def test_a_copy_is_found_where_no_blanks_part_words() -> None:
    held_out = "胸部X線写真で右下肺野に浸潤影を認めるため抗菌薬を開始した"
    copy, other = "転記：" + held_out, "頭部CTで出血は認めない"

    assert find(index_of(held_out), copy, other) == [(0, 0)]
    assert split_words("体温38.5度") == [part.encode() for part in ("体", "温", "38", "5", "度")]
