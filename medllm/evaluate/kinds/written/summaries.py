"""Summaries of clinical texts: what they keep, what they leave out, and what their text never said.

A rule reads each text; what its vocabulary does not hold it does not see, in summary, reference and
source alike. So the numbers compare models; they do not prove a summary right.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medllm.clinical.finding import SEVERITIES, Severity
from medllm.clinical.text.reading import read
from medllm.data.example import Example
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, mean_of, ratio_of, share_of
from medllm.evaluate.kinds.written.free_text import ALL, FreeText
from medllm.evaluate.kinds.written.told import interval_of, tell_measures, tell_pairs
from medllm.measures.intervals import FEWEST
from medllm.measures.ratings import estimate_correlation
from medllm.measures.text.answers import count_words
from medllm.measures.text.comparing import count_shared, find_unsupported, given_by
from medllm.measures.text.facts import CLASSES, Fact, find_facts
from medllm.measures.text.flips import add_flips, find_flips
from medllm.measures.text.numbers import judge_numbers
from medllm.measures.text.sections import find_elements, is_discharge, name_sections
from medllm.measures.text.shorthand import written_out
from medllm.reports.page import Page

SPANS = 50
"""Unsupported facts and wrong numbers that the page names."""
PAIRS = {
    "recall": ("reference", "recalled"),
    "precision": ("answer", "in_reference"),
    "supported": ("answer", "in_source"),
    "retention": ("source", "retained"),
}
"""Measures of facts: of whose facts the share is, and which of them count."""


class Summaries(FreeText):
    """Summaries, scored by their source and by a reference."""

    measure = "retention"
    reads_english = True
    headings: Mapping[str, str] = {
        "supported": "supported", "numeric_fidelity": "numbers", "ratio": "ratio",
    }  # fmt: skip

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """What of the facts and numbers of source, reference and answer is in the others."""
        source = source_of(answered.item, asking.spec.instruction)
        texts = {
            "answer": read(answered.whole),
            "reference": read(written_out(answered.item.completion)),
            "source": read(written_out(source)),
        }
        facts = {name: find_facts(reading) for name, reading in texts.items()}
        numbers = judge_numbers(texts["answer"], texts["source"])
        outcomes = Counter(each.outcome for each in numbers)
        record: Record = {
            **super().judge(answered, asking),
            **_shared(facts),
            "ratio": count_words(answered.text) / max(count_words(source), 1),
            "numbers": len(numbers),
            "numbers_kept": outcomes["kept"],
            "numbers_wrong": [
                {"outcome": each.outcome, "span": list(each.place)}
                for each in numbers
                if each.outcome != "kept"
            ],
            "unsupported": [
                {"class": each.kind, "severity": each.severity, "flip": each.flip,
                 "span": list(each.place)}
                for each in add_flips(
                    find_unsupported(facts["answer"], facts["source"]),
                    find_flips(texts["answer"], texts["source"]),
                )
            ],
            "sections": _omitted(name_sections(texts["source"], facts["source"]), facts),
        }  # fmt: skip
        if is_discharge(source) or is_discharge(answered.item.completion):
            wanted = find_elements(texts["source"], facts["source"])
            had = find_elements(texts["answer"], facts["answer"])
            record["elements"] = {name: name in had for name in sorted(wanted)}
        return record

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """The numbers of all summaries; shares are over all facts of all of them together."""
        numbers = super().sum_up(records)
        for name, (whole, part) in PAIRS.items():
            numbers |= ratio_of(records, name, f"facts_{part}", f"facts_{whole}")
        numbers |= ratio_of(records, "numeric_fidelity", "numbers_kept", "numbers")
        ratios = [record["ratio"] for record in records]
        wrong = [each["outcome"] for record in records for each in record["numbers_wrong"]]
        flips = Counter(
            each["flip"] for record in records for each in record["unsupported"] if each["flip"]
        )
        return {
            **numbers,
            **mean_of(records, "ratio"),
            "ratio_median": statistics.median(ratios),
            "ratio_sd": statistics.stdev(ratios) if len(ratios) > 1 else None,
            **_correlation(records),
            "numbers_altered": wrong.count("altered"),
            "numbers_invented": wrong.count("invented"),
            "flips": dict(flips),
            "unsupported": _by_severity(records),
            "by_class": {kind: told for kind in CLASSES if (told := _of_class(records, kind))},
            "omitted_by_section": _sections(records),
            "discharge": _elements(records),
        }

    def tell(self, page: Page, score: Mapping[str, Any], records: Sequence[Record]) -> None:
        """The measures by class, section and severity, and summaries beside their references."""
        tell_measures(page, score, (*PAIRS, "numeric_fidelity", "ratio", *ALL))
        rows = [
            (kind, *(interval for name in PAIRS for interval in _share(told, name)))
            for kind, told in score["by_class"].items()
        ]
        page.table(("class", *(head for name in PAIRS for head in (name, "of"))), rows)
        rows = _shares(score["unsupported"], "facts", "share")
        page.table(("unsupported", "facts", "share of summaries", "95 %"), rows)
        page.table(("the other way round", "facts"), list(score["flips"].items()))
        rows = _shares(score["omitted_by_section"], "omitted_of", "omitted")
        page.table(("section of the source", "facts", "share omitted", "95 %"), rows)
        rows = _shares(score["discharge"], "items", "has")
        page.table(("in a discharge text", "sources", "share of summaries", "95 %"), rows)
        _tell_spans(page, records)
        tell_pairs(page, [_with_retention(record) for record in records], self.measure)


def _shares(told: Mapping[str, Any], of: str, share: str) -> list[tuple[object, ...]]:
    """Of each name of how many its share is, the share, and its interval."""
    return [(name, each[of], each[share], interval_of(each, share))
            for name, each in told.items() if each]  # fmt: skip


def _share(told: Mapping[str, Any], name: str) -> tuple[object, object]:
    return (told[name], told[f"{name}_of"]) if name in told else ("", "")


def _with_retention(record: Record) -> Record:
    whole = record["facts_source"]
    return {**record, "retention": record["facts_retained"] / whole if whole else None}


def _tell_spans(page: Page, records: Sequence[Record]) -> None:
    """What is wrong in the summaries, with its words where the records hold texts."""
    rows = [
        (severity, what, record["id"], f"{begin}–{end}", record.get("answer", "")[begin:end])
        for record in records
        for what, severity, (begin, end) in spans_of(record)
    ]
    rows.sort(key=lambda row: SEVERITIES.index(row[0]), reverse=True)
    page.table(("severity", "what", "summary", "characters", "words"), rows[:SPANS])
    if len(rows) > SPANS:
        page.text(f"{SPANS} of {len(rows):,}; the records have all.")


def source_of(item: Example, instruction: str | None) -> str:
    """The text that is to be summarized: what the user says, without the task's instruction."""
    said = "\n\n".join(turn.content for turn in item.prompt if turn.role == "user")
    return said.removeprefix(f"{instruction}\n\n") if instruction else said


def _shared(facts: Mapping[str, Sequence[Fact]]) -> Record:
    """How many facts there are of each text, and how many are in another; also by class."""
    pairs = {
        "recalled": ("reference", "answer"), "in_reference": ("answer", "reference"),
        "in_source": ("answer", "source"), "retained": ("source", "answer"),
    }  # fmt: skip
    by_class: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for part, (whole, other) in pairs.items():
        for kind, (count, shared) in count_shared(facts[whole], facts[other]).items():
            if count:
                by_class[kind] |= {f"facts_{whole}": count, f"facts_{part}": shared}
    names = [f"facts_{name}" for pair in PAIRS.values() for name in pair]
    totals = {name: sum(each.get(name, 0) for each in by_class.values()) for name in names}
    return {**totals, "classes": dict(by_class)}


def _omitted(names: Sequence[str], facts: Mapping[str, Sequence[Fact]]) -> dict[str, list[int]]:
    """By section of the source: its facts, and those that the answer omits."""
    given = given_by(facts["answer"])
    wanted = {key for each in facts["answer"] for key in each.wants}
    sections: dict[str, list[int]] = {}
    for name, fact in zip(names, facts["source"], strict=True):
        count = sections.setdefault(name, [0, 0])
        count[0] += 1
        count[1] += not (fact.wants & given or fact.gives & wanted)
    return sections


def _correlation(records: Sequence[Record]) -> dict[str, float]:
    """Spearman's correlation of length and retention; nothing where either never varies."""
    found = [record for record in records if record["facts_source"]]
    ratios = [record["ratio"] for record in found]
    kept = [record["facts_retained"] / record["facts_source"] for record in found]
    told = estimate_correlation(ratios, kept) if len(found) >= FEWEST else None
    return {"ratio_against_retention": told.value} if told else {}


def _by_severity(records: Sequence[Record]) -> dict[str, Any]:
    """By severity how many facts are unsupported, and in what share of the summaries."""
    severities = sorted({each["severity"] for record in records for each in record["unsupported"]})
    told = {}
    for severity in severities:
        counts = [
            sum(each["severity"] == severity for each in record["unsupported"])
            for record in records
        ]
        some = [
            {**record, "share": count > 0} for record, count in zip(records, counts, strict=True)
        ]
        told[severity] = {"facts": sum(counts), **share_of(some, "share")}
    return told


def _of_class(records: Sequence[Record], kind: str) -> dict[str, Any]:
    found = [
        {**record, **record["classes"][kind]} for record in records if kind in record["classes"]
    ]
    told: dict[str, Any] = {}
    for name, (whole, part) in PAIRS.items():
        told |= ratio_of(found, name, f"facts_{part}", f"facts_{whole}")
    return told


def _sections(records: Sequence[Record]) -> dict[str, Any]:
    names = sorted({name for record in records for name in record["sections"]})
    return {name: _section(records, name) for name in names}


def _section(records: Sequence[Record], name: str) -> dict[str, Any]:
    found = [
        {**record, "facts": facts, "omitted": omitted}
        for record in records
        for facts, omitted in [record["sections"].get(name, (0, 0))]
    ]
    return ratio_of(found, "omitted", "omitted", "facts")


def _elements(records: Sequence[Record]) -> dict[str, Any]:
    """Of each element of a discharge text: in what share of the summaries whose source has it."""
    names = sorted({name for record in records for name in record.get("elements", ())})
    told = {}
    for name in names:
        having = [
            {**record, "has": record["elements"][name]}
            for record in records
            if name in record.get("elements", ())
        ]
        told[name] = {"items": len(having), **share_of(having, "has")}
    return told


def spans_of(record: Record) -> Iterator[tuple[str, Severity, list[int]]]:
    """What is wrong in a summary, how severe that is, and where it stands in it."""
    for each in record["unsupported"]:
        what = f"{each['flip']} of a {each['class']}" if each["flip"] else f"a new {each['class']}"
        yield what, each["severity"], each["span"]
    for each in record["numbers_wrong"]:
        yield f"a number {each['outcome']}", "moderate", each["span"]
