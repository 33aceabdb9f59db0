"""Named entities: those that a model lists for a text, beside those that people marked in it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medllm.data.example import Example
from medllm.data.shapes.entities import ENTITIES, mentions_of
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, Generated, ends, groups_of, mean_of, share_of
from medllm.measures.spans import (
    Counts,
    Spans,
    count_exact,
    count_overlapping,
    estimate_f1,
    find_mentions,
    plain,
)

LINE = re.compile(
    r"(?i)[\s>*•\-\d.)({\"']*\**(?P<type>[a-z]+?)(?:\(s\)|s)?[\"'*]*\s*:\**\s*(?P<names>.*)"
)
PARTED = re.compile(r"\n|;|,\s+")
BULLET = re.compile(r"^(?:[\s>*•-]|\d+[.)]\s)+|[\s.,;*]+$")
OF_JSON = re.compile(r"^[\[{\s]+(?=[\"']|$)|(?<=[\"'])[\]}\s]+$|^[\]}\[{\s,]+$")
FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
KEYS = (("type", "label", "entity_type", "category"), ("name", "text", "entity", "mention"))
"""Under which keys the objects of a list have the type, and the name."""
NONE = re.compile(
    r"(?i)(?:there (?:are|is) )?"
    r"(?:none|n/a|no (?:diseases?|chemicals?|drugs?|entit\w+|names)\b.{0,60})"
)
"""An answer that there is nothing to list."""
BRACKET = re.compile(r"\s*[(\[]([^()\[\]]+)[)\]]\s*$")
WORDS = {"drug": "chemical", "medication": "chemical", "condition": "disease"}
"""Other words for the types, by which models write headings."""
MOST_WORDS = 15
"""Of the longest name that the two corpora mark: a sentence that is copied overlaps with all that
it names, and is none of them."""
WAYS = {"exact": count_exact, "overlap": count_overlapping}


class Ner(Generated):
    """Entities by span: each name that is listed counts wherever it stands in the text.

    A name that stands nowhere, or is longer than any that the corpora mark, counts as found
    wrongly, once.
    """

    measure = "overlap_f1"
    headings: Mapping[str, str] = {
        "exact_f1": "exact_f1", "name_f1": "name_f1", "not_in_text": "not in text",
    }  # fmt: skip

    def lacking(self, item: Example) -> str | None:
        """Marked entities; a text may have none."""
        return super().lacking(item) or (None if ENTITIES in item.metadata else "no marked names")

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """The counts of each type: spans exact and overlapping, and names in any case."""
        item = answered.item
        asked = f"{asking.spec.instruction}\n\n" if asking.spec.instruction else ""
        text = "".join(turn.content for turn in item.prompt[-1:]).removeprefix(asked)
        wanted = mentions_of(item)
        types = asking.spec.entities or tuple(sorted(wanted))
        listed = read_list(_whole_names(answered), types)
        counts: dict[str, list[int]] = {}
        missing = 0
        for kind in types:
            names = [each for name in listed.get(kind, []) for each in _as_it_stands(name, text)]
            short = [name for name in names if len(name.split()) <= MOST_WORDS]
            spans, absent = find_mentions(short, text)
            absent += set(names) - set(short)
            missing += len(absent)
            for way, count in WAYS.items():
                counts[f"{way} {kind}"] = _plain(count(spans, wanted.get(kind, set())), len(absent))
            counts[f"name {kind}"] = _plain(_count_names(names, wanted.get(kind, set()), text), 0)
        given = sum(len(set(names)) for names in listed.values())
        is_unread = not given and not _says_none(answered.text)
        share = missing / given if given else None
        return {"counts": counts, "names": given, "not_in_text": share, "unreadable": is_unread}

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """Precision, recall and F1 of all types together and of each, exact and overlapping."""
        groups = groups_of(records)
        numbers: dict[str, Any] = {"names": sum(record["names"] for record in records)}
        keys = [key.split() for record in records for key in record["counts"]]
        for way in (*WAYS, "name"):
            types = sorted({kind for of, kind in keys if of == way})
            for name, chosen in (("", types), *((f"_{kind}", [kind]) for kind in types)):
                if name and len(types) == 1:
                    continue
                found = estimate_f1([_counts(each, way, chosen) for each in records], groups)
                for score, value in found.items():
                    numbers |= ends(f"{way}_{score}{name}", value)
        return numbers | mean_of(records, "not_in_text") | share_of(records, "unreadable")


def _whole_names(answered: Answered) -> str:
    """The answer without its last name, where that was cut."""
    if answered.finish_reason != "length":
        return answered.text
    parted = [found.start() for found in PARTED.finditer(answered.text)]
    return answered.text[: parted[-1]] if parted else ""


def read_list(answer: str, types: Sequence[str]) -> dict[str, list[str]]:
    """The names of each type in an answer: `type: name`, or names below or behind a heading.

    Behind a heading names are parted by semicolons, or commas and a blank. Lines of other types
    are left out.
    """
    found: dict[str, list[str]] = {}
    if (told := _of_json(answer)) is not None:
        for word, name in told:
            if name.strip() and not NONE.fullmatch(name) and (kind := _type_of(word, types)):
                found.setdefault(kind, []).append(name.strip())
        return found
    current = types[0] if len(types) == 1 else None
    for line in answer.splitlines():
        if match := LINE.fullmatch(line):
            current = _type_of(match["type"], types)
            names = list(_names_in(match["names"]))
        elif line.rstrip(" *").endswith(":"):  # a sentence before a list
            said = [t for t in types if t in line.lower()]
            current, names = said[0] if said else current, []
        else:
            names = list(_names_in(line))
        if current and names:
            found.setdefault(current, []).extend(names)
    return found


def _type_of(word: str, types: Sequence[str]) -> str | None:
    """Which type a word names, also in the plural: of one type a list may name none."""
    word = word.strip().lower()
    known = {word, word.removesuffix("s"), WORDS.get(word.removesuffix("s"))}
    if not word and len(types) == 1:
        return types[0]
    return next((kind for kind in types if kind in known), None)


def _of_json(answer: str) -> list[tuple[str, str]] | None:
    """Types and names of an answer that is JSON, alone or in a block of code; else None.

    It is `{"disease": ["asthma"]}`, or a list of names, or of objects with a type and a name.
    """
    fenced = FENCED.search(answer)
    try:
        told = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return None
    if isinstance(told, dict) and len(told) == 1 and "entities" in told:
        told = told["entities"]
    if isinstance(told, dict):
        pairs = [(str(word), each) for word, names in told.items() for each in _listed(names)]
        return [(word, each) for word, each in pairs if isinstance(each, str)]
    if not isinstance(told, list):
        return None
    return [("", each) if isinstance(each, str) else _of_object(each) for each in told]


def _listed(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [names]


def _of_object(told: Any) -> tuple[str, str]:
    """The type and the name of an object, under the keys that models choose."""
    known = told if isinstance(told, dict) else {}
    word, name = (
        next((known[key] for key in keys if isinstance(known.get(key), str)), "") for keys in KEYS
    )
    return word, name


def _names_in(text: str) -> Iterator[str]:
    for part in PARTED.split(text):
        name = _bare(part)
        if name and not NONE.fullmatch(name):
            yield name


def _bare(part: str) -> str:
    """A name without a bullet, without quotes, and without the brackets of a list in JSON."""
    return OF_JSON.sub("", BULLET.sub("", OF_JSON.sub("", part))).strip("`\"'“”")


def _says_none(answer: str) -> bool:
    """Whether a line says that there is nothing, or empty JSON; a repeated instruction does not."""
    if (told := _of_json(answer)) is not None:
        return all(NONE.fullmatch(name) for _, name in told)
    values = (line.rpartition(":")[2] for line in answer.splitlines())
    return any(NONE.fullmatch(_bare(value)) for value in values)


def _as_it_stands(name: str, text: str) -> list[str]:
    """The name; of `lithium (Li)`, which stands nowhere, the parts that do."""
    found = BRACKET.search(name)
    if not found or not find_mentions([name], text)[1]:
        return [name]
    parts = [name[: found.start()], found[1]]
    return [part for part in parts if part and not find_mentions([part], text)[1]] or [name]


def _count_names(listed: Sequence[str], wanted: Spans, text: str) -> Counts:
    """Names in any case, each once a document."""
    given = {" ".join(plain(name).lower().split()) for name in listed}
    there = {" ".join(plain(text[begin:end]).lower().split()) for begin, end in wanted}
    same = len(given & there)
    return Counts(len(there), len(given), same, same)


def _plain(counts: Counts, invented: int) -> list[int]:
    """As a list; what stands nowhere in the text was found, and wrongly."""
    return [counts.wanted, counts.given + invented, counts.hits, counts.reached]


def _counts(record: Record, way: str, types: Sequence[str]) -> Counts:
    known = [Counts(*record["counts"].get(f"{way} {kind}", (0, 0, 0, 0))) for kind in types]
    return sum(known, Counts())
