"""Phrases of whole words, found in a text in one pass."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from medllm.clinical.text.folding import fold_characters
from medllm.clinical.text.reading import WORD

Meaning = TypeVar("Meaning")


def words_in(phrase: str) -> tuple[str, ...]:
    """The words of a phrase in the form that a `Reading` has them."""
    return tuple(WORD.findall(fold_characters(phrase).text))


class Phrases(Generic[Meaning]):
    """Phrases with what each one means; of several at one place the longest is found."""

    def __init__(self, meanings: Iterable[tuple[str, Meaning]]) -> None:
        """Phrases of no word are left out; of equal phrases the first one counts."""
        self._meanings: dict[tuple[str, ...], Meaning] = {}
        self._lengths: dict[str, list[int]] = {}
        for phrase, meaning in meanings:
            words = words_in(phrase)
            if words and words not in self._meanings:
                self._meanings[words] = meaning
                lengths = self._lengths.setdefault(words[0], [])
                if len(words) not in lengths:
                    lengths.append(len(words))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    @property
    def words(self) -> frozenset[str]:
        """The words of all phrases."""
        return frozenset(word for phrase in self._meanings for word in phrase)

    def find(self, words: Sequence[str]) -> Iterator[tuple[int, int, Meaning]]:
        """Begin, end (in words) and meaning of each phrase, in order; none overlap."""
        lengths_of, meanings = self._lengths, self._meanings
        done = 0
        for begin, word in enumerate(words):
            if begin < done or word not in lengths_of:
                continue
            for length in lengths_of[word]:
                phrase = tuple(words[begin : begin + length])
                if phrase in meanings:
                    done = begin + len(phrase)
                    yield begin, done, meanings[phrase]
                    break
