"""Stop strings: an answer ends before one, and no part of it is shown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from medllm.engines.base import Piece


def until_stop(pieces: Iterable[Piece], stop: Sequence[str]) -> Iterator[Piece]:
    """The pieces up to the first stop string, which is never shown, not even in part.

    For each piece comes one, be it empty: so a reader can end the answer at any step. The work is
    linear in the text, whatever the stop strings are.
    """
    watch = StopWatch(stop)
    for piece in pieces:
        yield watch.take(piece)
        if watch.has_stopped:
            return


class StopWatch:
    """Looks for stop strings in an answer, a piece at a time."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.has_stopped = False
        """Whether one was found: the answer ends before it."""
        self._searches = [_Search(each) for each in stop if each]
        self._held = ""  # may be the beginning of a stop string

    def take(self, piece: Piece) -> Piece:
        """The piece as it may be shown; before a stop string that ends in it the answer ends.

        Of several that do, it is the one that begins first, as llama-server has it.
        """
        text = self._held + piece.text
        begins = [
            end - len(search.stop)
            for end, character in enumerate(piece.text, len(self._held) + 1)
            for search in self._searches
            if search.ends_with(character)
        ]
        if begins:
            self.has_stopped = True
            return replace(piece, text=text[: min(begins)], finish_reason="stop")
        doubtful = max((each.begun for each in self._searches), default=0)
        ready = len(text) if piece.finish_reason else len(text) - doubtful
        self._held = text[ready:]
        return replace(piece, text=text[:ready])


class _Search:
    """Looks for a stop string as text comes, a character at a time (Knuth, Morris, Pratt 1977)."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.begun = 0
        """How many of its first characters the text ends with."""
        self._shorter: list[int] = [0]  # where to go on, by how much of it was there
        for character in stop[1:]:
            self._shorter.append(self._longer(self._shorter[-1], character))

    def ends_with(self, character: str) -> bool:
        """Whether the text ends with the stop string after one more character."""
        self.begun = self._longer(self.begun, character)
        return self.begun == len(self.stop)

    def _longer(self, begun: int, character: str) -> int:
        while begun and self.stop[begun : begun + 1] != character:  # all of it may be there
            begun = self._shorter[begun - 1]
        return begun + (self.stop[begun] == character)
