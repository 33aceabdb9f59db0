"""Texts with the entities that people marked in them: blocks in PubTator's form, or in IOB's.

PubTator's is that of BC5CDR and of the NCBI disease corpus: `PMID|t|title`, `PMID|a|abstract`,
and a line a mention with its begin and end in title, blank and abstract. IOB has a token a line
with its tag, B- where a mention begins and I- where it goes on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medllm.data.example import Example, Message, Rejected
from medllm.data.readers.rows import KEY, Row
from medllm.data.shapes.columns import Columns

ENTITIES = "entities"
"""The metadata that holds them, as [begin, end, type] in characters of the prompt."""
DISEASES = ("Disease", "SpecificDisease", "DiseaseClass", "CompositeMention", "Modifier", "")
"""What the corpora call diseases; IOB without a type is of diseases alone."""
TYPES: Mapping[str, str] = {"Chemical": "chemical", **dict.fromkeys(DISEASES, "disease")}
OTHER = "other"
"""A type that is none of them, as of genes; a text with one is left out."""
BLOCK = re.compile(r"^(\d+)\|t\|(.*)\n\1\|a\|(.*)")
NOTHING = "none"

Mention = tuple[int, int, str]


def read_entities(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A text, and the names in it, each once, as `type: name`, a line each; `none` without any."""
    block = str(row.get("text", "")).strip("\n")
    identity = f"{dataset}/{row.get(KEY, number)}"
    if found := BLOCK.match(block):
        identity, text = f"{dataset}/{found[1]}", f"{found[2]} {found[3]}"
        mentions = list(_of_pubtator(block))
    else:
        text, mentions = _of_iob(block)
    if not text.strip():
        return Rejected(identity, "no text")
    if any(end > len(text) or begin >= end for begin, end, _ in mentions):
        return Rejected(identity, "a mention lies outside of the text")
    if any(kind == OTHER for _, _, kind in mentions):
        return Rejected(identity, "a mention is neither of a disease nor of a chemical")
    if found and not _are_where_they_say(block, text):
        return Rejected(identity, "other words stand where a mention is said to be")
    return Example(
        id=identity,
        dataset=dataset,
        group=identity.partition("/")[2],
        prompt=(Message("user", text),),
        completion=write_list(text, mentions),
        metadata={ENTITIES: [list(each) for each in mentions]},
        group_kind="article" if found else "",
    )


def write_list(text: str, mentions: Sequence[Mention]) -> str:
    """The names as an answer lists them, in the order of the text, each once."""
    lines = [f"{kind}: {' '.join(text[begin:end].split())}" for begin, end, kind in mentions]
    return "\n".join(dict.fromkeys(lines)) or NOTHING


def _of_pubtator(block: str) -> Iterator[Mention]:
    """The mentions; a relation (CID) has fewer columns."""
    for begin, end, _, kind in _lines_of(block):
        yield begin, end, TYPES.get(kind, OTHER)


def _lines_of(block: str) -> Iterator[tuple[int, int, str, str]]:
    for line in block.split("\n")[2:]:
        columns = line.split("\t")
        if len(columns) >= 5 and columns[1].isdigit() and columns[2].isdigit():
            yield int(columns[1]), int(columns[2]), columns[3], columns[4].strip()


def _are_where_they_say(block: str, text: str) -> bool:
    """Whether each mention's words stand at its place: not so where places count bytes."""
    return all(
        "".join(text[begin:end].split()) == "".join(words.split())
        for begin, end, words, _ in _lines_of(block)
    )


def _of_iob(block: str) -> tuple[str, list[Mention]]:
    """The tokens with blanks between, and the mentions."""
    text, mentions = "", list[Mention]()
    for line in block.split("\n"):
        token, _, tag = line.partition("\t")
        begin = len(text) + bool(text)
        text += f" {token}" if text else token
        kind = TYPES.get(tag[2:].strip(), OTHER)
        if tag.startswith("I-") and mentions and mentions[-1][1] == begin - 1:
            mentions[-1] = (mentions[-1][0], len(text), mentions[-1][2])
        elif tag[:2] in ("B-", "I-"):
            mentions.append((begin, len(text), kind))
    return text, mentions


def mentions_of(example: Example) -> dict[str, set[tuple[int, int]]]:
    """The spans of each type in the last message of an example."""
    spans: dict[str, set[tuple[int, int]]] = {}
    known: Any = example.metadata.get(ENTITIES, [])
    for begin, end, kind in known:
        spans.setdefault(kind, set()).add((begin, end))
    return spans
