"""Rows of a result that come in any order: on the disk at once, in the order of their file at last.

Until all are there they lie in a `.partial` file beside it, each with its number; an interrupted
run finds them there, and a torn last line is cut off.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medllm.data.example import as_json

Row = dict[str, Any]


class RowFile:
    """A JSONL file in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_suffix(".partial")
        if self._partial.is_file():
            whole = self._partial.read_bytes().splitlines(keepends=True)
            self._partial.write_bytes(b"".join(each for each in whole if each.endswith(b"\n")))

    @property
    def is_whole(self) -> bool:
        """Whether all rows are there, in order."""
        return self.path.is_file()

    def numbers(self) -> set[int]:
        """The rows that an interrupted run left."""
        return {number for number, _ in self._offsets()}

    def rows(self) -> dict[int, Row]:
        """The rows that an interrupted run left, by their numbers."""
        if not self._partial.is_file():
            return {}
        with self._partial.open(encoding="utf-8") as file:
            return dict(map(json.loads, file))

    def discard(self) -> None:
        """Forget the rows, which nobody needs any more."""
        self._partial.unlink(missing_ok=True)

    @contextmanager
    def adding(self) -> Iterator[Callable[[int, Row], None]]:
        """Meanwhile rows are added, each with its number, and are on the disk at once."""
        with self._partial.open("a", encoding="utf-8") as file:
            self._partial.chmod(0o600)

            def add(number: int, row: Row) -> None:
                file.write(as_json([number, row]) + "\n")
                file.flush()

            yield add

    def finish(self) -> None:
        """Put the rows in order."""
        ordered = self.path.with_suffix(".ordered.partial")
        with self._partial.open("rb") as source, ordered.open("w", encoding="utf-8") as target:
            ordered.chmod(0o600)
            for _, offset in sorted(self._offsets()):
                source.seek(offset)
                target.write(as_json(json.loads(source.readline())[1]) + "\n")
        ordered.replace(self.path)
        self._partial.unlink()

    def _offsets(self) -> Iterator[tuple[int, int]]:
        """The number of each row, and where it begins."""
        if not self._partial.is_file():
            return
        at = 0
        with self._partial.open("rb") as file:
            for line in file:
                yield json.loads(line)[0], at
                at += len(line)
