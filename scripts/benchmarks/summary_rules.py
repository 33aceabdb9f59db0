"""What the rules of `summarize` find in notes that were altered, and falsely in parts of notes.

python scripts/benchmarks/summary_rules.py CSV_GZ [NOTES]

The file is MTSamples as CSV with a column `transcription`; notes that speak of a discharge count.
Parts are 40 % of a note's sentences: whatever is found in these is a false alarm. Altered is one
sentence at a time: a number (3 x + 1), a denial (taken away), a side (the other one).
"""

import csv
import gzip
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medllm.clinical.text.reading import Reading, read
from medllm.measures.intervals import estimate_proportion
from medllm.measures.text.comparing import Unsupported, distinct, find_unsupported
from medllm.measures.text.facts import find_facts
from medllm.measures.text.flips import add_flips, find_flips
from medllm.measures.text.numbers import find_numbers, judge_numbers

ALTERED = {
    "denial": ((r"\bno ", ""), (r"\bdenies\b", "reports"), (r"\bwithout\b", "with")),
    "side": ((r"\bleft\b", "right"), (r"\bright\b", "left")),
}
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def main() -> None:
    """Print a table and write the JSON."""
    import measure

    found = Counter[tuple[str, bool]]()
    random.seed(0)
    for note in notes(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100):
        source = read(note)
        found.update(of_part(note, source))
        for sentence in sentences(note, source):
            found.update(of_altered(sentence, source))
    rows = {}
    for name in dict.fromkeys(name for name, _ in found):
        hits, total = found[name, True], found[name, True] + found[name, False]
        share = estimate_proportion(hits, total)
        rows[name] = {"found": hits, "of": total, "share": share.value,
                      "low": share.low, "high": share.high}  # fmt: skip
        print(f"{name:22} {hits:6} of {total:6}  {share.value:.3f}")
    measure.write("summary-rules", rows)


def notes(path: Path, count: int) -> Iterator[str]:
    """Notes that speak of a discharge, the first so many."""
    csv.field_size_limit(10**8)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = (row["transcription"] for row in csv.DictReader(file))
        wanted = (text for text in texts if "ischarge" in text and len(text) > 800)
        yield from (text for _, text in zip(range(count), wanted, strict=False))


def sentences(note: str, source: Reading) -> Iterator[str]:
    """The sentences of a note."""
    for first, last in source.sentences:
        if first < last:
            begin, end = source.place(first, last)
            yield note[begin:end]


def unsupported(text: str, source: Reading) -> list[Unsupported]:
    """What `summarize` holds against a text."""
    answer = read(text)
    facts = find_unsupported(find_facts(answer), find_facts(source))
    return add_flips(facts, find_flips(answer, source))


def of_part(note: str, source: Reading) -> Iterator[tuple[str, bool]]:
    """Of a part of a note each fact and number, and whether it is held against it."""
    part = ". ".join(each for each in sentences(note, source) if random.random() < 0.4) + "."
    wrong = len(unsupported(part, source))
    total = len(distinct(find_facts(read(part))))
    yield from (("false alarm, fact", number < wrong) for number in range(max(total, wrong)))
    for each in judge_numbers(read(part), source):
        yield "false alarm, number", each.outcome != "kept"


def of_altered(sentence: str, source: Reading) -> Iterator[tuple[str, bool]]:
    """Of each alteration of a sentence whether it is found."""
    places = [each.place for each in find_numbers(read(sentence))]
    if places:
        begin, end = random.choice(places)
        if digits := NUMBER.search(sentence, begin, end):
            other = f"{3 * float(digits[0]) + 1:g}"
            altered = sentence[: digits.start()] + other + sentence[digits.end() :]
            judged = judge_numbers(read(altered), source)
            yield "altered number", any(each.outcome != "kept" for each in judged)
    for name, changes in ALTERED.items():
        for pattern, by in changes:
            altered = re.sub(pattern, by, sentence, count=1, flags=re.IGNORECASE)
            if altered != sentence:
                yield f"altered {name}", bool(unsupported(altered, source))


if __name__ == "__main__":
    main()
