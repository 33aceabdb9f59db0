"""How well entities are found: BC5CDR and the NCBI disease corpus, development sets.

python scripts/benchmarks/ner.py DATA [--train] [--spacy FOLDER]

DATA holds ner/bc5cdr and ner/ncbi-disease. Precision, recall and F1 of exact spans and of spans
that overlap, with 95 % intervals bootstrapped over the documents. --train reads the training sets,
on which words and rules may be improved; --spacy measures a spaCy model in a folder the same way.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from medllm.clinical.entities import Entity, find_entities
from medllm.clinical.text.reading import Reading, read
from medllm.data.example import Example
from medllm.data.readers.rows import Layout, read_rows
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.entities import mentions_of, read_entities
from medllm.measures.spans import Spans, count_exact, count_overlapping, estimate_f1

SETS = {
    "bc5cdr": ("bc5cdr/CDR_{}Set.PubTator.txt", ("Training", "Development")),
    "ncbi-disease": ("ncbi-disease/NCBI{}set_corpus.txt", ("train", "develop")),
}
OURS = {"disease": "disease", "finding": "disease", "drug": "chemical"}
BETWEEN = r"^\s*$"
"""Lines between documents."""
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
    for name, count in (("exact", count_exact), ("overlap", count_overlapping)):
        scores = estimate_f1([count(found, gold) for found, gold in rows])
        figures[name] = {
            score: [None if x is None else round(x, 3) for x in (each.value, each.low, each.high)]
            for score, each in scores.items()
        }
    return figures


def read_pubtator(path: Path, kind: str) -> Iterator[tuple[str, Spans]]:
    """The texts of a file in PubTator's form, and the spans of one kind."""
    for number, row in enumerate(read_rows(path, Layout(document_start=BETWEEN)), 1):
        document = read_entities("documents", number, row, Columns())
        if isinstance(document, Example):
            yield document.prompt[0].content, mentions_of(document).get(kind, set())


if __name__ == "__main__":
    main()
