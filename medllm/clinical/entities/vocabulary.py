"""The typed names that ship: `knowledge/entities.txt.gz`, made by `scripts/build_entities.py`."""

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

ENTITIES = Path(__file__).parents[1] / "knowledge" / "entities.txt.gz"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names of words in their normal form (see `normal`), each as `type<TAB>id`."""

    names: Mapping[str, str]
    lengths: Mapping[str, Sequence[int]]
    """By the first word of a name: how many words the names have, the longest first."""

    def find(self, words: Sequence[str]) -> Iterator[tuple[int, int, str, str]]:
        """First and last word, type and id of each name, the longest at each place."""
        done = 0
        for begin, word in enumerate(words):
            if begin < done or word not in self.lengths:
                continue
            for length in self.lengths[word]:
                name = word if length == 1 else " ".join(words[begin : begin + length])
                if name in self.names and begin + length <= len(words):
                    type_, _, id_ = self.names[name].partition("\t")
                    done = begin + length
                    yield begin, done, type_, id_
                    break

    def ids_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """The ids of all of some names that are known."""
        ids = (self.names.get(name, "").partition("\t")[2].split() for name in names)
        return tuple(dict.fromkeys(chain.from_iterable(ids)))


@cache
def read_vocabulary() -> Vocabulary:
    """The names that ship, read at the first use."""
    lines = gzip.decompress(ENTITIES.read_bytes()).decode().splitlines()
    names: dict[str, str] = {}
    lengths: dict[str, list[int]] = {}
    for line in lines:
        if line[0] == "#":
            continue
        name, _, meaning = line.partition("\t")
        names[name] = meaning
        first = name.partition(" ")[0]
        length = name.count(" ") + 1
        known = lengths.setdefault(first, [])
        if length not in known:
            known.append(length)
    for known in lengths.values():
        known.sort(reverse=True)
    return Vocabulary(names, lengths)
