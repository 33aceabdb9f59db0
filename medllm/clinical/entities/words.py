"""Words that tell what a name is a name of, as the table `entity_words` lists them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table
from medllm.clinical.text.phrases import words_in

Type = Literal["disease", "drug", "anatomy", "procedure", "finding"]
TYPES: tuple[Type, ...] = get_args(Type)
_LEAST_LETTERS = 6
"""Letters of a word that is known by its ending alone."""


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    if row["type"] != "none" and any(len(each) < 3 for each in row.get("endings", ())):
        yield "endings must have three letters or more"


ENTITY_WORDS = Table(
    name="entity_words",
    columns=frozenset({"type", "heads", "endings", "names", "modifiers", "never"}),
    needed=frozenset({"type"}),
    choices={"type": (*TYPES, "none")},
    lists=frozenset({"heads", "endings", "names", "modifiers", "never"}),
    faults=_faults,
)


def normal(word: str) -> str:
    """A word of a folded text in the singular and in American spelling, for comparison alone."""
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "sui":
        if word.endswith("ies"):
            word = word[:-3] + "y"
        elif len(word) > 7 and word.endswith(("oses", "stases")):
            word = word[:-2] + "is"
        else:
            word = word[:-1]
    if "ae" in word or "oe" in word:
        word = word.replace("ae", "e").replace("oe", "e")
    return word.replace("our", "or") if word.endswith("mour") else word


@dataclass(frozen=True, slots=True)
class EntityWords:
    """What the table says, in the form that a text is compared with."""

    heads: Mapping[str, Type]
    names: Mapping[str, Type]
    modifiers: frozenset[str]
    never: frozenset[str]
    _endings: Mapping[str, Type]
    _lengths: tuple[int, ...]
    _adjective: re.Pattern[str]
    _last_letters: frozenset[str]

    def type_of(self, word: str) -> Type | None:
        """The type of a word by its ending."""
        if word[-3:] not in self._last_letters:  # most words end here
            return None
        if len(word) < _LEAST_LETTERS or word in self.never:
            return None
        ending = self._ending_of(word)
        return self._endings[ending] if ending else None

    def stem_of(self, word: str) -> str:
        """What stands before the ending that tells the type of a word."""
        return word.removesuffix(self._ending_of(word))

    def _ending_of(self, word: str) -> str:
        endings = (word[-length:] for length in self._lengths)
        return next((each for each in endings if each in self._endings), "")

    def is_modifier(self, word: str) -> bool:
        """Whether a word before a head belongs to the name."""
        if word in self.modifiers:
            return True
        return len(word) > 4 and word not in self.never and bool(self._adjective.search(word))


def build_entity_words(knowledge: Knowledge) -> EntityWords:
    """The words of the rules."""
    rows = [*knowledge.rows(ENTITY_WORDS.name)]
    typed = [row for row in rows if row["type"] != "none"]
    endings = {each: row["type"] for row in typed for each in row.get("endings", ())}
    adjectives = [each for row in rows if row["type"] == "none" for each in row.get("endings", ())]
    return EntityWords(
        heads={name: row["type"] for row in typed for name in _normals(row.get("heads", ()))},
        names={name: row["type"] for row in typed for name in _normals(row.get("names", ()))},
        modifiers=frozenset(_normals(each for row in rows for each in row.get("modifiers", ()))),
        never=frozenset(each for row in rows for each in row.get("never", ())),
        _endings=endings,
        _lengths=tuple(sorted({*map(len, endings)}, reverse=True)),
        _adjective=_ending(adjectives),
        _last_letters=frozenset(each[-3:] for each in endings),
    )


def _ending(endings: Iterable[str]) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(map(re.escape, endings))})$")


def _normals(names: Iterable[str]) -> Iterable[str]:
    return (" ".join(map(normal, words_in(name))) for name in names)
