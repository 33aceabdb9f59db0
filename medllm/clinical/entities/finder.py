"""Entities in a text: names of the vocabulary, names by their head or ending, short forms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from medllm.clinical.entities.short_forms import find_definitions, find_known
from medllm.clinical.entities.vocabulary import Vocabulary, read_vocabulary
from medllm.clinical.entities.words import EntityWords, Type, build_entity_words, normal
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, Span

_SALTS = frozenset(
    map(
        normal,
        words_in(
            "sulfate sulphate sodium potassium calcium magnesium hydrochloride chloride bromide "
            "hydrobromide acetate maleate citrate phosphate tartrate succinate fumarate mesylate "
            "besylate nitrate gluconate lactate carbonate"
        ),
    )
)
_EPONYMIC = frozenset({"syndrome", "disease", "anomaly", "disorder", "dystrophy", "malformation"})
"""Heads before which a name of a person belongs to the name."""
_NO_PERSON = frozenset(
    words_in("the this that these those a an his her their our your its each such some any no all")
)
_MOST_WORDS = 8
"""Words that are put before a name, at most."""


@dataclass(frozen=True, slots=True)
class Entity:
    """The words `first` to `last` (not included) of a text that name a `type` of thing.

    `ids` are those of MeSH (`MESH:D006973`), the Disease Ontology (`DOID:10763`) and DrugBank
    (`DB00945`); there are none for a name that is known by its words alone. `names` are what a
    short form stands for, `wider` those of what it is a kind of, and `may` the several things that
    it may mean.
    """

    type: Type
    first: int
    last: int
    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()
    may: tuple[str, ...] = ()

    def place(self, reading: Reading) -> Span:
        """Where it stands in the text."""
        return reading.place(self.first, self.last)


def find_entities(
    reading: Reading, knowledge: Knowledge | None = None, *, is_note: bool = False
) -> tuple[Entity, ...]:
    """The entities of a text, in order; none overlap.

    In a note the short forms are known that clinicians write (`CXR`, `T2DM`); in articles these
    mean other things, too.
    The vocabulary is read at the first call. A short form that the text defines ("chronic kidney
    disease (CKD)") is what its long form is, wherever it stands.
    """
    knowledge = knowledge or shipped_knowledge()
    known = knowledge.built(build_entity_words)
    words = [normal(each) for each in reading.words]
    found = _Found(len(words))
    for entity in _find_names(words, read_vocabulary()):
        found.add(entity)
    if is_note:
        for entity in _find_short_forms(reading, found, knowledge, read_vocabulary()):
            found.add(entity)
    for entity in _expanded(reading, words, found, known):
        found.add(entity)
    _join_salts(reading, words, found)
    _add_short_forms(reading, found)
    return tuple(found)


class _Found:
    """Entities by the words that they cover; a later one takes the place of what it covers."""

    def __init__(self, words: int) -> None:
        self._at: list[Entity | None] = [None] * words

    def __iter__(self) -> Iterator[Entity]:
        before = None
        for each in self._at:
            if each and each is not before:
                yield each
            before = each

    def at(self, word: int) -> Entity | None:
        """The entity that covers a word."""
        return self._at[word] if 0 <= word < len(self._at) else None

    def is_free(self, entity: Entity) -> bool:
        """Whether all that stands at its words are entities within them."""
        ends = self.at(entity.first), self.at(entity.last - 1)
        return all(
            each is None or (entity.first <= each.first and each.last <= entity.last)
            for each in ends
        )

    def add(self, entity: Entity) -> None:
        """Add an entity whose words are those of whole other ones, or of none."""
        for word in range(entity.first, entity.last):
            self._at[word] = entity


def _find_names(words: Sequence[str], vocabulary: Vocabulary) -> Iterator[Entity]:
    for first, last, type_, ids in vocabulary.find(words):
        yield Entity(cast(Type, type_), first, last, tuple(ids.split()))


def _find_short_forms(
    reading: Reading, found: _Found, knowledge: Knowledge, vocabulary: Vocabulary
) -> Iterator[Entity]:
    for first, last, meaning in find_known(reading, knowledge, (0, len(reading.words))):
        ids = vocabulary.ids_of(meaning.names)
        entity = Entity(meaning.type, first, last, ids, meaning.names, may=meaning.may)
        if meaning.says_more:
            entity = Entity(meaning.type, first, last, wider=(*ids, *meaning.names))
        known = found.at(first)
        if known and (known.first, known.last) == (first, last):
            yield replace(entity, type=known.type, ids=(*known.ids, *ids))
        elif found.is_free(entity):
            yield entity


def _expanded(
    reading: Reading, words: Sequence[str], found: _Found, known: EntityWords
) -> Iterator[Entity]:
    """Names by the head or the ending of a word, with the words before that belong to them."""
    for word in range(len(words)):
        named = found.at(word)
        if named and word + 1 < named.last:
            continue
        is_head = words[word] in known.heads
        type_ = named.type if named else known.heads.get(words[word]) or known.type_of(words[word])
        if type_ not in {"disease", "finding"} and not (type_ and not named):
            continue
        first = named.first if named else word
        begin = _begin_of_name(reading, words, found, known, first)
        if named and begin == first:
            continue
        if not named and is_head and begin == word and known.names.get(words[word]) is None:
            continue
        yield Entity(type_, begin, word + 1)  # which is more exact than what has ids


def _begin_of_name(
    reading: Reading, words: Sequence[str], found: _Found, known: EntityWords, first: int
) -> int:
    """The first of the words before a head that belong to its name."""
    begin, least = first, max(first - _MOST_WORDS, 0)
    while begin > least and reading.between(begin - 1) in (" ", "-"):
        before = found.at(begin - 1)
        if before and before.type in {"anatomy", "disease"} and before.first >= least:
            begin = before.first
        elif before is None and (
            known.is_modifier(words[begin - 1])
            or (words[first] in _EPONYMIC and _is_capital(reading, begin - 1))
        ):
            begin -= 1
        else:
            break
    return begin


def _is_capital(reading: Reading, word: int) -> bool:
    """Whether a word may be a name of a person."""
    begin, _ = reading.place(word, word + 1)
    return reading.text[begin].isupper() and reading.words[word] not in _NO_PERSON


def _join_salts(reading: Reading, words: Sequence[str], found: _Found) -> None:
    """Make one name of a drug and its salt, `sodium valproate`."""
    for entity in [*found]:
        if not _is_salt(entity, words) or found.at(entity.first) != entity:
            continue
        before, after = found.at(entity.first - 1), found.at(entity.last)
        if before and _is_drug(before) and reading.between(entity.first - 1) == " ":
            found.add(Entity("drug", before.first, entity.last, before.ids))
        elif after and _is_drug(after) and reading.between(entity.last - 1) == " ":
            found.add(Entity("drug", entity.first, after.last, after.ids))


def _is_drug(entity: Entity) -> bool:
    return entity.type == "drug" and entity.last - entity.first < _MOST_WORDS


def _is_salt(entity: Entity, words: Sequence[str]) -> bool:
    return entity.last - entity.first == 1 and words[entity.first] in _SALTS


def _add_short_forms(reading: Reading, found: _Found) -> None:
    """Give each short form that the text defines the type of its long form, everywhere."""
    meant: dict[str, tuple[int, Entity]] = {}
    for (first, end), (_, last) in find_definitions(reading):
        long = found.at(last - 1)
        if long and long.last == last:
            meant[_quote(reading, first, end)] = end - first, long
    by_word = {short.lower().split("-")[0]: short for short in meant}
    for number, word in enumerate(reading.words):
        known = found.at(number)
        if word in by_word and (known is None or known.names or known.wider or known.may):
            length, long = meant[by_word[word]]
            end = min(number + length, len(reading.words))
            if _quote(reading, number, end) == by_word[word]:
                found.add(Entity(long.type, number, end, long.ids))


def _quote(reading: Reading, first: int, last: int) -> str:
    begin, end = reading.place(first, last)
    return reading.text[begin:end]
