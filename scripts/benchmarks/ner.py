"""How well entities are found: BC5CDR and the NCBI disease corpus, development sets.

python scripts/benchmarks/ner.py DATA [--train] [--spacy FOLDER]

DATA holds ner/bc5cdr and ner/ncbi-disease. Precision, recall and F1 of exact spans and of spans
that overlap, with 95 % intervals bootstrapped over the documents. --train reads the training sets,
on which words and rules may be improved; --spacy measures a spaCy model in a folder the same way.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from medllm.clinical.entities import Entity, find_entities
from medllm.clinical.text.reading import Reading, read
from medllm.measures.intervals import estimate_ratio

SETS = {
    "bc5cdr": ("bc5cdr/CDR_{}Set.PubTator.txt", ("Training", "Development")),
    "ncbi-disease": ("ncbi-disease/NCBI{}set_corpus.txt", ("train", "develop")),
}
OURS = {"disease": "disease", "finding": "disease", "drug": "chemical"}
Spans = set[tuple[int, int]]
Finder = Callable[[Reading], Iterable[Entity]]


def main() -> None:
    """Print a table; write the JSON where the development sets were read with our own names."""
    import measure

    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--spacy", type=Path)
    options = parser.parse_args()
    finder: Finder = find_entities
    if options.spacy:
        from medllm.clinical.entities.models import load_spacy

        finder = load_spacy(options.spacy)
    figures: dict[str, object] = {}
    for name, (file, parts) in SETS.items():
        path = options.data / "ner" / file.format(parts[not options.train])
        for kind in ("disease", "chemical") if name == "bc5cdr" else ("disease",):
            figures[f"{name} {kind}"] = evaluate(path, kind, finder)
    for name, rows in figures.items():
        print(name, rows)
    if not options.train and not options.spacy:
        measure.write("ner", figures)


def evaluate(path: Path, kind: str, finder: Finder) -> dict[str, object]:
    """The figures of one kind of entity in the documents of a file."""
    rows = []
    seconds = 0.0
    for text, gold in read_pubtator(path, kind):
        began = time.process_time()
        reading = read(text)
        found = {each.place(reading) for each in finder(reading) if OURS.get(each.type) == kind}
        seconds += time.process_time() - began
        rows.append((found, gold))
    figures: dict[str, object] = {
        "documents": len(rows),
        "ms_a_document": round(1e3 * seconds / len(rows), 2),
    }
    for name, same in (("exact", exact), ("overlap", overlap)):
        hits = [len(same(found, gold)) for found, gold in rows]
        reached = [len(same(gold, found)) for found, gold in rows]
        given, wanted = ([len(each[at]) for each in rows] for at in (0, 1))
        both = [a + b for a, b in zip(hits, reached, strict=True)]
        figures[name] = {
            "precision": estimated(hits, given),
            "recall": estimated(reached, wanted),
            "f1": estimated(both, [a + b for a, b in zip(given, wanted, strict=True)]),
        }
    return figures


def estimated(hits: list[int], of: list[int]) -> list[float | None]:
    """A ratio and its 95 % interval."""
    estimate = estimate_ratio(hits, of)
    return [
        None if x is None else round(x, 3) for x in (estimate.value, estimate.low, estimate.high)
    ]


def exact(spans: Spans, others: Spans) -> Spans:
    """The spans that are among the others."""
    return spans & others


def overlap(spans: Spans, others: Spans) -> Spans:
    """The spans that share a character with one of the others."""
    return {a for a in spans if any(a[0] < b[1] and b[0] < a[1] for b in others)}


def read_pubtator(path: Path, kind: str) -> Iterable[tuple[str, Spans]]:
    """The texts of a file in PubTator's form, and the spans of one kind."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.strip().split("\n")
        title, abstract = (line.split("|", 2)[2] for line in lines[:2])
        rows = [line.split("\t") for line in lines[2:]]
        yield (
            f"{title} {abstract}",
            {
                (int(row[1]), int(row[2]))
                for row in rows
                if len(row) >= 6 and (row[4] == "Chemical") == (kind == "chemical")
            },
        )


if __name__ == "__main__":
    main()
