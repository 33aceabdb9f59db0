"""Build `entities.txt.gz`, typed names with their ids, and `known_words.txt.gz`, their words.

    python scripts/build_entities.py DATA        DATA holds terms/, ner/, qa/, notes/ and general/

The names come from the Disease Ontology (diseases), DrugBank's open vocabulary (drugs) and MeSH
2015, whose names are typed by the other two and by the table `entity_words`; what that cannot type
is left out. So are names that general text holds more often than medical text, and names that the
training sets of BC5CDR and of the NCBI disease corpus hold, but rarely as what we took them for.
"""

import csv
import gzip
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from build_terms import MIN_RATIO, general_documents, medical_documents

from medllm.clinical.entities.vocabulary import ENTITIES, Vocabulary
from medllm.clinical.entities.words import EntityWords, build_entity_words, normal
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.terms import vocabulary
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import read
from medllm.clinical.wording.known_words import KNOWN_WORDS

HEADER = """\
# Names, in the normal form of medllm (singular, American spelling), a tab, their type, a tab, their
# ids; made by scripts/build_entities.py from MeSH 2015, courtesy of the U.S. National Library of
# Medicine; the Disease Ontology (CC0 1.0, disease-ontology.org); DrugBank Open Data vocabulary (CC0
# 1.0, go.drugbank.com). NLM has not endorsed this list, and its current data may differ.
"""
MAX_WORDS = 8
LEAST_SHARE = 0.4
"""Of the occurrences in the training sets that are annotated, from three occurrences on."""
SUPPORT = 3
GENERIC = {"disease", "syndrome", "disorder", "deficiency", "abnormality", "lesion", "defect"}
"""Names that say nothing where they stand alone."""
Typed = dict[str, tuple[str, set[str]]]


def main() -> None:
    """Write the file and say what is in it."""
    root = Path(sys.argv[1])
    words = build_entity_words(shipped_knowledge())
    names = collect(root / "terms", words)
    dropped = (everyday(names, root) - words.names.keys()) | misleading(names, root / "ner")
    dropped |= GENERIC
    kept = {name: meant for name, meant in names.items() if name not in dropped}
    lines = [f"{name}\t{type_}\t{' '.join(sorted(ids))}" for name, (type_, ids) in kept.items()]
    ENTITIES.write_bytes(
        gzip.compress((HEADER + "\n".join(sorted(lines)) + "\n").encode(), mtime=0)
    )
    KNOWN_WORDS.write_bytes(gzip.compress(words_of_names(kept).encode(), mtime=0))
    print(f"{len(kept):,} of {len(names):,} names, {ENTITIES.stat().st_size:,} bytes")
    print(f"their words: {KNOWN_WORDS.stat().st_size:,} bytes")
    print(Counter(type_ for type_, _ in kept.values()))


def words_of_names(names: Typed) -> str:
    """Lines of words: drugs, other names of one word, and all further words of names and terms."""
    single = {name: type_ for name, (type_, _) in names.items() if " " not in name}
    drugs_of_one = sorted(name for name, type_ in single.items() if type_ == "drug")
    others = sorted(single.keys() - {*drugs_of_one})
    further = {word for name in (*names, *map(key, vocabulary())) for word in name.split()}
    lines = (drugs_of_one, others, sorted(further - single.keys()))
    return HEADER + "".join(" ".join(words) + "\n" for words in lines)


def collect(folder: Path, words: EntityWords) -> Typed:
    """All names by their normal form."""
    names: Typed = {name: (type_, set()) for name, type_ in words.names.items()}
    for name, id_ in diseases(folder / "disease_ontology_term_names.tsv"):
        add(names, name, words.names.get(key(name), "disease"), id_)
    for name, id_ in drugs(folder / "drugbank_open_vocabulary.csv.gz"):
        add(names, name, "drug", id_)
    for name, id_ in mesh(folder / "mesh_terms.tsv"):
        known = names.get(key(name))
        type_ = known[0] if known else type_of(key(name), words)
        if type_:
            add(names, name, type_, id_)
    return names


def add(names: Typed, name: str, type_: str, id_: str) -> None:
    """Add a name that can stand in a text; the first type of a name counts."""
    normal_form = key(name)
    if is_wordlike(normal_form):
        names.setdefault(normal_form, (type_, set()))[1].add(id_)


def key(name: str) -> str:
    """The normal form of a name."""
    return " ".join(map(normal, words_in(name)))


def is_wordlike(name: str) -> bool:
    """Whether it is neither a code, a formula nor clipped (`fever or [...]`), nor short or long."""
    letters = sum(map(str.isalpha, name))
    return (
        letters >= 4
        and not name.endswith((" or", " other"))
        and letters >= 0.7 * len(name.replace(" ", ""))
        and len(name.split()) <= MAX_WORDS
    )


def type_of(name: str, words: EntityWords) -> str | None:
    """The type of a name of MeSH by its last word."""
    last = name.split()[-1]
    return words.names.get(last) or words.heads.get(last) or words.type_of(last)


def diseases(path: Path) -> Iterator[tuple[str, str]]:
    """Names of the Disease Ontology and their ids."""
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["type"] in {"name", "exact-synonym"}:
                name = re.sub(r"\s*[(\[][^)\]]*[)\]]", "", row["name"])
                name = re.sub(r",? (?:nos|unspecified)$", "", name, flags=re.IGNORECASE)
                yield name, row["doid"]


def drugs(path: Path) -> Iterator[tuple[str, str]]:
    """Names of DrugBank's open vocabulary and their ids."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name in (row["Common name"], *row["Synonyms"].split(" | ")):
                yield name, row["DrugBank ID"]


def mesh(path: Path) -> Iterator[tuple[str, str]]:
    """Names of MeSH as they stand in text, and their ids."""
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            name = re.sub(r"\s*[(\[].*?[)\]]", "", row["mesh_name"])
            head, comma, rest = name.partition(", ")
            natural = f"{rest} {head}" if comma and ", " not in rest else name
            yield natural, f"MESH:{row['mesh_id']}"


def everyday(names: Typed, root: Path) -> set[str]:
    """The names of one word that general text holds too often."""
    single = Vocabulary(
        {name: type_ for name, (type_, _) in names.items() if " " not in name},
        dict.fromkeys((name for name in names if " " not in name), (1,)),
    )
    development = root / "ner/bc5cdr/CDR_DevelopmentSet.PubTator.txt"
    unseen = {text.partition("\t")[2] for text, _ in read_pubtator(development)}
    medical = [text for text in medical_documents(root) if text not in unseen]
    general = [*general_documents(root)]
    in_medical, in_general = (count(texts, single) for texts in (medical, general))
    ratio = len(general) / len(medical)
    return {name for name in in_general if in_medical[name] * ratio < MIN_RATIO * in_general[name]}


def count(texts: Iterable[str], names: Vocabulary) -> Counter[str]:
    """In how many texts each name stands."""
    found: Counter[str] = Counter()
    for text in texts:
        words = [normal(each) for each in read(text).words]
        found.update({words[first] for first, *_ in names.find(words)})
    return found


def misleading(names: Typed, folder: Path) -> set[str]:
    """The names that the training sets seldom have as what we took them for."""
    lengths = defaultdict[str, set[int]](set)
    for name in names:
        lengths[name.split()[0]].add(name.count(" ") + 1)
    vocabulary = Vocabulary(
        {name: type_ for name, (type_, _) in names.items()},
        {first: sorted(found, reverse=True) for first, found in lengths.items()},
    )
    right, seen = Counter[str](), Counter[str]()
    for path, types in (
        ("bc5cdr/CDR_TrainingSet.PubTator.txt", {"disease", "finding", "drug"}),
        ("ncbi-disease/NCBItrainset_corpus.txt", {"disease", "finding"}),
    ):
        for text, spans in read_pubtator(folder / path):
            reading = read(text)
            words = [normal(each) for each in reading.words]
            for first, last, type_, _ in vocabulary.find(words):
                if type_ in types:
                    name = " ".join(words[first:last])
                    begin, end = reading.place(first, last)
                    seen[name] += 1
                    right[name] += any(
                        begin < stop and start < end and (type_ == "drug") == (kind == "Chemical")
                        for start, stop, kind in spans
                    )
    return {name for name, n in seen.items() if n >= SUPPORT and right[name] < LEAST_SHARE * n}


def read_pubtator(path: Path) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """The texts of a file in PubTator's form, and begin, end and type of what is annotated."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.strip().split("\n")
        title, abstract = (line.split("|", 2)[2] for line in lines[:2])
        rows = [line.split("\t") for line in lines[2:]]
        spans = [(int(row[1]), int(row[2]), row[4]) for row in rows if len(row) >= 6]
        yield f"{title}\t{abstract}", spans  # one character between, as offsets count


if __name__ == "__main__":
    main()
