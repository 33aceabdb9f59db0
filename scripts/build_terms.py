"""Build `medllm/clinical/knowledge/terms.txt`: names of diseases, drugs and medical subjects.

    python scripts/build_terms.py DATA        DATA holds terms/, qa/, notes/, ner/ and general/

The names come from MeSH 2015 (NLM), the Disease Ontology (CC0) and DrugBank's open vocabulary
(CC0). Much in them is everyday language ("time", "Alabama", "love"). A name stays if it is clearly
more frequent in medical text than in general text; those that neither holds stay if they name a
disease or a drug and look like a word.
"""

import csv
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from medllm.clinical.terms import (
    MAX_WORDS,
    MEDICAL_DENSITY,
    TERMS,
    count_texts,
    find_terms,
    term_density,
    words_of,
)

HEADER = """\
# Names of diseases, drugs and medical subjects, in lower case; made by scripts/build_terms.py from
# MeSH 2015, courtesy of the U.S. National Library of Medicine; the Disease Ontology (CC0 1.0);
# DrugBank Open Data vocabulary (CC0 1.0). NLM has not endorsed this list.
"""
MIN_RATIO = 8.0
"""How many times as many medical as general documents must hold a name."""
MIN_LETTERS = 4


def main() -> None:
    """Write the list and say how well it tells medical from general documents."""
    root = Path(sys.argv[1])
    names = read_names(root / "terms")
    medical, general = list(medical_documents(root)), list(general_documents(root))
    known = frozenset(names)
    in_medical, in_general = (
        count_texts(find_terms(text, known) for text in documents)
        for documents in (medical, general)
    )
    ratio = len(general) / len(medical)
    kept = sorted(
        name
        for name, is_proper in names.items()
        if (in_medical[name] and in_medical[name] * ratio >= MIN_RATIO * in_general[name])
        or (is_proper and not in_medical[name] and not in_general[name])
    )
    TERMS.write_bytes(gzip.compress((HEADER + "\n".join(kept) + "\n").encode(), mtime=0))
    print(f"{len(kept):,} of {len(names):,} names, {TERMS.stat().st_size:,} bytes")
    terms = frozenset(kept)
    for kind, documents in (("medical", medical), ("general", general)):
        texts = [text for text in documents if len(text) > 200]
        share = sum(is_medical(text, terms) for text in texts) / len(texts)
        print(f"{share:.1%} of {len(texts):,} {kind} documents count as medical")


def read_names(folder: Path) -> dict[str, bool]:
    """Name in lower case → whether it names a disease or a drug."""
    with (folder / "mesh_terms.tsv").open(encoding="utf-8") as file:
        mesh = [row["mesh_name"] for row in csv.DictReader(file, delimiter="\t")]
    with (folder / "disease_ontology_term_names.tsv").open(encoding="utf-8") as file:
        diseases = [row["name"] for row in csv.DictReader(file, delimiter="\t")]
    with gzip.open(folder / "drugbank_open_vocabulary.csv.gz", "rt", encoding="utf-8") as file:
        drugs = [row["Common name"] for row in csv.DictReader(file)]
    proper = {name: True for name in map(normalise, [*diseases, *drugs]) if is_wordlike(name)}
    return {**dict.fromkeys(filter(is_wordlike, map(normalise, mesh)), False), **proper}


def normalise(name: str) -> str:
    """The name as it stands in running text: "Lymphoma, T-Cell" is "t-cell lymphoma"."""
    name = re.sub(r"\s*[(\[].*?[)\]]", "", name)
    head, comma, rest = name.partition(", ")
    return " ".join(words_of(f"{rest} {head}" if comma and ", " not in rest else name))


def is_wordlike(name: str) -> bool:
    """Whether it has a length to be looked for, and is no code such as "cp-526423"."""
    letters = re.sub(r"[^a-z]", "", name)
    return (
        len(letters) >= MIN_LETTERS
        and len(letters) >= 0.7 * len(name.replace(" ", ""))
        and len(name.split()) <= MAX_WORDS
    )


def is_medical(text: str, terms: frozenset[str]) -> bool:
    """Whether a text counts as medical by the terms in it."""
    return term_density(text, find_terms(text, terms)) >= MEDICAL_DENSITY


def medical_documents(root: Path) -> Iterator[str]:
    """Abstracts, notes, questions and answers."""
    pubmedqa = json.loads((root / "qa/pubmedqa/ori_pqal.json").read_text(encoding="utf-8"))
    yield from (" ".join([*row["CONTEXTS"], row["LONG_ANSWER"]]) for row in pubmedqa.values())
    with gzip.open(root / "notes/mtsamples_shared.csv.gz", "rt", encoding="utf-8") as file:
        yield from (row["transcription"] for row in csv.DictReader(file))
    with gzip.open(root / "qa/medquad/medquad_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from (json.loads(line)["answer"] for line in file)
    for path in sorted((root / "ner/bc5cdr").glob("*.txt")):
        yield from re.findall(r"^\d+\|a\|(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def general_documents(root: Path) -> Iterator[str]:
    """Web pages, encyclopaedia paragraphs, and plays in pieces of 2,000 characters."""
    with (root / "general/c4_demo.jsonl").open(encoding="utf-8") as file:
        yield from (json.loads(line)["text"] for line in file)
    wiki = (root / "general/wikitext-2_valid.txt").read_text(encoding="utf-8")
    yield from (line for line in wiki.splitlines() if len(line) > 200)
    plays = (root / "general/tinyshakespeare.txt").read_text(encoding="utf-8")
    yield from (plays[start : start + 2000] for start in range(0, len(plays), 2000))


if __name__ == "__main__":
    main()
