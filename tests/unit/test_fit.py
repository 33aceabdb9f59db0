"""Texts within bounds: filtered, cut, split, packed."""

from collections.abc import Sequence

import pytest
from words import Words

from medllm.data.example import Example, Rejected
from medllm.data.fit import Fit, OverLength, Sample


def fit(over_length: OverLength = "drop", window_tokens: int = 100) -> Fit:
    return Fit(lambda row: row.text, Words(), 3, 10, over_length, window_tokens)


def note(words: int, name: str = "1") -> Example:
    return Example(f"d/{name}", "d", name, (), " ".join(f"w{n}" for n in range(words)))


@pytest.mark.parametrize("words", [3, 7, 10])
def test_what_fits_stays_as_it_is(words: int) -> None:
    (sample,) = fit().fit([note(words)])

    assert sample == Sample("d/1", "d", note(words).completion, words, ("d/1",))


@pytest.mark.parametrize(
    ("words", "reason"),
    [(0, "shorter than 3 tokens"), (2, "shorter than 3 tokens"), (11, "longer than 10 tokens")],
)
def test_what_does_not_fit_is_rejected_with_the_reason(words: int, reason: str) -> None:
    assert list(fit().fit([note(words)])) == [Rejected("d/1", reason)]


def test_a_truncated_text_is_the_beginning_of_the_text() -> None:
    (sample,) = fit("truncate").fit([note(25)])

    assert isinstance(sample, Sample)
    assert sample.text == note(10).completion
    assert (sample.id, sample.tokens) == ("d/1", 10)


def test_the_pieces_of_a_split_text_lose_nothing_but_a_rest_below_the_bound() -> None:
    pieces = [one for one in fit("split").fit([note(25)]) if isinstance(one, Sample)]

    assert [piece.tokens for piece in pieces] == [10, 10, 5]
    assert [piece.id for piece in pieces] == ["d/1#1", "d/1#2", "d/1#3"]
    assert "".join(piece.text for piece in pieces) == note(25).completion
    assert [one.tokens for one in fit("split").fit([note(22)]) if isinstance(one, Sample)] == [
        10,
        10,
    ]


def test_short_rows_are_packed_into_windows_of_whole_rows() -> None:
    rows = [note(4, str(n)) for n in range(6)]

    windows = [one for one in fit().pack(rows) if isinstance(one, Sample)]

    assert [window.parts for window in windows] == [("d/0", "d/1"), ("d/2", "d/3"), ("d/4", "d/5")]
    assert windows[0].text == f"{rows[0].text}\n\n{rows[1].text}"
    assert [window.tokens for window in windows] == [8, 8, 8]
    assert windows[0].id == "d/0+1"


class Characters(Words):
    """Every character is a token, those between two rows of a window, too."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]


def test_what_stands_between_the_rows_of_a_window_counts() -> None:
    rows = [Example(f"d/{n}", "d", str(n), (), "abcde") for n in range(12)]
    packed = Fit(lambda row: row.text, Characters(), 3, 100, "drop", window_tokens=20)

    windows = [one for one in packed.pack(rows) if isinstance(one, Sample)]

    assert [window.tokens for window in windows] == [19, 19, 19, 19]


def test_a_row_beyond_a_window_is_rejected_and_the_rest_goes_on() -> None:
    rows = [note(4, "a"), note(11, "b"), note(4, "c")]

    found = list(fit().pack(rows))

    assert found[0] == Rejected("d/b", "longer than a window of 10 tokens")
    assert isinstance(found[1], Sample)
    assert found[1].parts == ("d/a", "d/c")


def test_a_window_that_is_never_filled_to_the_lower_bound_is_none() -> None:
    left = [Rejected("d/1", "in a last window shorter than 3 tokens")]
    assert list(fit().pack([note(2)])) == left
    assert list(fit().fit([])) == list(fit().pack([])) == []
