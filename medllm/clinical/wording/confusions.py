"""Names in an answer that look like those of its question, and are others."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from medllm.clinical.case import Case
from medllm.clinical.drugs.mentions import Mention, find_drugs
from medllm.clinical.finding import Finding, NotChecked, Severity
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading, Span, read
from medllm.clinical.wording.letters import are_alike, swapped

GROUPS = ("drug", "term", "opposite", "affix", "side", "position", "alike")
_PLACES = frozenset({"side", "position"})
_NAMING = frozenset({"drug", "term", "opposite"})
_SEVERITIES: Mapping[str, Severity] = dict.fromkeys(("drug", "term", "side"), "moderate")
"""Of names in the question; what only the list of medications holds is minor, as all others are."""
_ALIKE = "confusion.alike"
_NO_THING = frozenset(
    words_in("and or to of in on at a the now away then here there after before with by is was")
)
"""What stands after `left` and `right` without being on a side."""


def _faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    if set(row["a"]) & set(row["b"]):
        yield "a and b share a name"
    if row["group"] not in _NAMING and len(row["a"]) + len(row["b"]) > 2:
        yield f"a and b of the group {row['group']} have one name each"


CONFUSIONS = Table(
    name="confusions",
    columns=frozenset({"group", "a", "b"}),
    needed=frozenset({"group", "a", "b"}),
    lists=frozenset({"a", "b"}),
    choices={"group": GROUPS},
    faults=_faults,
)

Name = tuple[str, str]
"""The id of a row, and which of its names: `a` or `b`."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of all pairs, by how they are written and by the drug that they are."""

    phrases: Phrases[list[Name]]
    of_drug: dict[str, list[Name]]
    written: frozenset[str]


@dataclass(slots=True)
class _Named:
    """What a text names: names of pairs, and drugs, with where the first of each stands."""

    names: dict[Name, Span] = field(default_factory=dict)
    drugs: dict[str, tuple[str, Span]] = field(default_factory=dict)


def find_confusions(case: Case) -> Iterator[Finding | NotChecked]:
    """The names of an answer that stand where the question has one that looks like them."""
    known = case.knowledge.built(_build_names)
    asked = _named(case.question, case.question_drugs, known)
    taken = _Named()
    for reading, drugs in case.medications:
        named = _named(reading, drugs, known)
        taken.names |= named.names
        taken.drugs |= named.drugs
    if asked.names or asked.drugs or taken.names or taken.drugs:
        answered = _named(case.answer, case.drugs, known)
        yield from _listed(case.knowledge, answered, asked, taken)
        yield from _alike(case.knowledge, answered, asked, taken)
    yield from _affixes(case, known.written)
    yield from _positions(case)


def _build_names(knowledge: Knowledge) -> _Names:
    phrases = defaultdict[str, list[Name]](list)
    of_drug = defaultdict[str, list[Name]](list)
    for row in knowledge.rows(CONFUSIONS.name):
        if row["group"] not in _NAMING:
            continue
        for side in ("a", "b"):
            for name in row[side]:
                phrases[" ".join(words_in(name))].append((row["id"], side))
            for mention in find_drugs(read(row[side][0]), knowledge, is_list=True):
                if not mention.is_brand and len(mention.drugs) == 1 and row["group"] == "drug":
                    of_drug[mention.drugs[0]].append((row["id"], side))
    return _Names(Phrases(phrases.items()), of_drug, frozenset(phrases))


def _named(reading: Reading, drugs: tuple[Mention, ...], known: _Names) -> _Named:
    named = _Named()
    for first, last, names in known.phrases.find(reading.words):
        for name in names:
            named.names.setdefault(name, reading.place(first, last))
    for mention in drugs:
        place = reading.place(mention.first, mention.last)
        for drug in mention.drugs:
            named.drugs.setdefault(drug, (reading.words[mention.first], place))
            for name in known.of_drug.get(drug, ()):
                named.names.setdefault(name, place)
    return named


def _listed(
    knowledge: Knowledge, answered: _Named, asked: _Named, taken: _Named
) -> Iterator[Finding]:
    table = knowledge.tables.get(CONFUSIONS.name, {})
    for name, span in answered.names.items():
        id_, side = name
        other = (id_, "b" if side == "a" else "a")
        if other in answered.names or name in asked.names or name in taken.names:
            continue
        if other in asked.names or other in taken.names:
            row = table[id_]
            names = row[side][0], row[other[1]][0]
            is_asked = other in asked.names
            yield _finding(knowledge, row, names, span, is_asked=is_asked)


def _alike(
    knowledge: Knowledge, answered: _Named, asked: _Named, taken: _Named
) -> Iterator[Finding]:
    """Two drugs of no pair and no joint class whose names are alike."""
    row = knowledge.tables.get(CONFUSIONS.name, {}).get(_ALIKE)
    known = asked.drugs | taken.drugs
    missing = {drug: said for drug, said in known.items() if drug not in answered.drugs}
    if not row or not missing:
        return
    listed = {id_ for id_, _ in answered.names} & {id_ for id_, _ in (asked.names | taken.names)}
    by_letter = defaultdict[str, list[str]](list)
    for drug in missing:
        by_letter[drug[:2]].append(drug)
    classes = knowledge.built(_build_classes)
    for drug, (_, span) in answered.drugs.items():
        for other in by_letter.get(drug[:2], ()) if drug not in known else ():
            is_listed = any(_is_pair(knowledge, id_, drug, other) for id_ in listed)
            if (
                not is_listed
                and not classes.get(drug, set()) & classes.get(other, set())
                and are_alike(drug, other)
            ):
                is_asked = other in asked.drugs
                yield _finding(knowledge, row, (drug, other), span, is_asked=is_asked)


def _build_classes(knowledge: Knowledge) -> defaultdict[str, set[str]]:
    classes = defaultdict[str, set[str]](set)
    for row in knowledge.rows("drug_classes"):
        for drug in row.get("members", ()):
            classes[drug].add(row["class"])
    return classes


def _is_pair(knowledge: Knowledge, id_: str, drug: str, other: str) -> bool:
    row = knowledge.tables[CONFUSIONS.name][id_]
    return {drug, other} <= {*row["a"], *row["b"]}


def _affixes(case: Case, listed: frozenset[str]) -> Iterator[Finding]:
    """The same word with another beginning or end: hypokinesia asked, hyperkinesia answered."""
    swaps = case.knowledge.built(_build_swaps).affixes
    answered, asked = set(case.answer.words), set(case.question.words)
    for word in sorted(asked - answered - listed):
        for row, said, meant in swaps:
            other = swapped(word, meant, said)
            if other and other in answered and other not in asked:
                at = case.answer.words.index(other)
                span = case.answer.place(at, at + 1)
                yield _finding(case.knowledge, row, (said, meant), span, is_asked=True)


def _positions(case: Case) -> Iterator[Finding]:
    """Another side or position of the same thing: the left knee asked, the right one answered."""
    others = case.knowledge.built(_build_swaps).places
    asked = {pair for pair in pairwise(case.question.words) if pair[0] in others}
    if not asked:
        return
    pairs = enumerate(pairwise(case.answer.words))
    answered = {pair: at for at, pair in pairs if pair[0] in others}
    for meant, thing in sorted(asked - answered.keys()):
        row, said = others[meant]
        if thing not in _NO_THING and (said, thing) in answered and (said, thing) not in asked:
            at = answered[said, thing]
            span = case.answer.place(at, at + 2)
            yield _finding(case.knowledge, row, (said, meant), span, is_asked=True)


@dataclass(frozen=True, slots=True)
class _Swaps:
    """Parts of words, and words of position, each with its row and what stands for it."""

    affixes: list[tuple[Row, str, str]]
    places: dict[str, tuple[Row, str]]


def _build_swaps(knowledge: Knowledge) -> _Swaps:
    swaps = [
        (row, said, meant)
        for row in knowledge.rows(CONFUSIONS.name)
        for said, meant in ((row["a"][0], row["b"][0]), (row["b"][0], row["a"][0]))
    ]
    return _Swaps(
        affixes=[each for each in swaps if each[0]["group"] == "affix"],
        places={meant: (row, said) for row, said, meant in swaps if row["group"] in _PLACES},
    )


def _finding(
    knowledge: Knowledge, row: Row, names: tuple[str, str], span: Span, *, is_asked: bool
) -> Finding:
    said, meant = names
    where = "question says" if is_asked else "list of medications has"
    alike = "" if row["group"] in _PLACES else ", which looks like it"
    return Finding(
        rule=row["id"],
        kind="look-alike",
        severity=_severity(knowledge, row) if is_asked else "minor",
        message=f"The answer says '{said}' where the {where} '{meant}'{alike}.",
        action="Make sure that the right one is meant.",
        basis=knowledge.basis(row),
        spans=(span,),
    )


def _severity(knowledge: Knowledge, row: Row) -> Severity:
    """That of the group; two drugs of one class may be alternatives, unless the FDA lists them."""
    classes = knowledge.built(_build_classes)
    is_choice = any(
        classes.get(one, set()) & classes.get(other, set())
        for one in row["a"]
        for other in row["b"]
    )
    if is_choice and knowledge.basis(row).source_kind != "regulator":
        return "minor"
    return _SEVERITIES.get(row["group"], "minor")
