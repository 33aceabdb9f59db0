"""`prepare` beside the discharge-summary seed's pipeline, and its memory on millions of rows.

    python scripts/benchmarks/prepare.py [--notes 20000] [--rows 2300000] [--keep FOLDER]

Needs the `bench` extra (pandas, nltk) and WordNet's dictionary, which is not on PyPI: Debian's
package `wordnet-base`. The seed's pipeline (reference: talhaahmed884's data_cleaning.ipynb) is
written anew below with its own tools and steps; it is slow, so that it gets the first notes of the
same file, and notes per second are compared. Its imports are not counted, ours are.
"""

import argparse
import csv
import gzip
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

import measure

WORDS = 2_000
TARGET_WORDS = 200
PEER_NOTES = 400
RUNS = 3
WORDNET = Path("/usr/share/wordnet")
STOP_WORDS = re.findall(
    r"\S+",
    """
    i me my myself we our ours ourselves you your yours he him his himself she her hers it
    its they them their theirs what which who whom this that these those am is are was
    were be been being have has had having do does did doing a an the and but if or
    because as until while of at by for with about against between into through during
    before after above below to from up down in out on off over under again further then
    once here there when where why how all any both each few more most other some such no
    nor not only own same so than too very s t can will just don should now d ll m o re ve
    y
    """,
)
"""NLTK's English list, without its contractions; `no` and `not` are among them."""
COMMON = re.findall(
    r"\S+",
    """
    the of and to with was is on for no not without in at by from patient history pain
    denies chest blood pressure heart rate daily mg tablet given stable acute chronic left
    right lung renal failure admitted discharge follow up clinic aspirin metoprolol
    insulin warfarin fever cough
    """,
)


def main() -> None:
    """Print a table and write `docs/benchmarks/prepare.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=2_300_000)
    parser.add_argument("--keep", type=Path, help="folder for the generated data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        place.mkdir(exist_ok=True)
        results = {**compare(place, options.notes), **measure_memory(place, options.rows)}
    for name, value in results.items():
        print(f"{name:32} {value}")
    measure.write("prepare", results)


def compare(place: Path, notes: int) -> dict[str, Any]:
    """Our notes per second and the peer's, on one file."""
    path = place / "notes.csv"
    if not path.is_file():
        write_notes(path, notes)
    ours = [prepare(path, place / "out")["seconds"] for _ in range(RUNS)]
    peer = [run_peer(path, place / "peer.csv") for _ in range(RUNS)]
    ours_rate = notes / statistics.median(ours)
    peer_rate = PEER_NOTES / statistics.median(peer)
    return {
        "notes": notes,
        "words_a_note": WORDS,
        "megabytes": round(path.stat().st_size / 1e6),
        "medllm_seconds": [round(value, 2) for value in ours],
        "medllm_notes_per_second": round(ours_rate, 1),
        "peer_notes": PEER_NOTES,
        "peer_seconds": [round(value, 2) for value in peer],
        "peer_notes_per_second": round(peer_rate, 1),
        "times_faster": round(ours_rate / peer_rate, 1),
        "peer": "pandas + NLTK (Treebank tokenizer, WordNet lemmatizer), one process as in the "
        f"seed, timed on the first {PEER_NOTES} notes without its imports",
    }


def measure_memory(place: Path, rows: int) -> dict[str, Any]:
    """Wall time and peak memory of the whole process tree on a csv.gz of short reports."""
    path = place / "radiology.csv.gz"
    if not path.is_file():
        write_reports(path, rows)
    found = prepare(path, place / "out")
    return {
        "rows": rows,
        "rows_megabytes_gzipped": round(path.stat().st_size / 1e6),
        "rows_seconds": round(found["seconds"], 1),
        "rows_per_second": round(rows / found["seconds"]),
        "peak_resident_mib_of_all_processes": round(found["peak_mib"]),
    }


def prepare(path: Path, output: Path) -> dict[str, float]:
    """One run of `medllm prepare`, with the most memory that its processes held together."""
    command = [sys.executable, "-m", "medllm", "prepare", "--dataset", str(path)]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--output", str(output), "--overwrite"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_kib(process.pid))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    return {"seconds": time.perf_counter() - began, "peak_mib": peak / 1024}


def resident_kib(pid: int) -> int:
    """The resident memory of a process and of all below it; shared pages count each time."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:  # it has ended
        return 0
    own = re.search(r"VmRSS:\s+(\d+)", status)
    return (int(own[1]) if own else 0) + sum(resident_kib(int(child)) for child in children)


def write_notes(path: Path, count: int) -> None:
    """Notes and summaries as MIMIC-IV-BHC has them: columns, length, numbers, line breaks."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = (
            (
                f"{10_000_000 + n // 2}-DS-{n}",
                10_000_000 + n // 2,
                f"21{n % 90:02d}-03-{n % 28 + 1:02d} 10:{n % 60:02d}:00",
                write_text(generator, WORDS - TARGET_WORDS),
                write_text(generator, TARGET_WORDS),
            )
            for n in range(count)
        )
        write_csv(file, ("note_id", "subject_id", "charttime", "input", "target"), rows)


def write_reports(path: Path, count: int) -> None:
    """Short reports in the columns of MIMIC-IV-Note's radiology.csv.gz."""
    generator = random.Random(1)
    stock = [write_text(generator, 12) for _ in range(20_000)]
    with gzip.open(path, "wt", encoding="utf-8", newline="", compresslevel=1) as file:
        rows = (
            (
                f"{10_000_000 + n // 10}-RR-{n}",
                10_000_000 + n // 10,
                "2180-05-06 22:15:00",
                f"Report {n}. {' '.join(generator.choices(stock, k=4))}",
            )
            for n in range(count)
        )
        write_csv(file, ("note_id", "subject_id", "charttime", "text"), rows)


def write_csv(file: TextIO, columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    """Write a header and rows."""
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(rows)


def make_vocabulary() -> list[str]:
    """Twenty thousand words that look like words, after the common ones."""
    generator = random.Random(2)
    parts = re.findall("..?", "cardimypathhemonephlithiasisteralicumradiograpulmonary")
    made = {"".join(generator.choices(parts, k=generator.randint(2, 5))) for _ in range(40_000)}
    return COMMON + sorted(made)[:20_000]


VOCABULARY = make_vocabulary()
WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))
"""Zipf's law, summed up."""


def write_text(generator: random.Random, words: int) -> str:
    """Sentences with numbers, in lines."""
    chosen = generator.choices(VOCABULARY, cum_weights=WEIGHTS, k=words)
    for place in range(7, words, 12):
        chosen[place] = f"{generator.randint(1, 500)}.{generator.randint(0, 9)}"
    for place in range(11, words, 12):
        chosen[place] = chosen[place].capitalize() + (".\n" if place % 5 else ".")
    return " ".join(chosen)


def run_peer(path: Path, output: Path) -> float:
    """Seconds of the seed's pipeline on the first notes of a file."""
    import pandas
    from nltk.tokenize import TreebankWordTokenizer

    lemmatize, tokenizer = make_lemmatizer(), TreebankWordTokenizer()
    began = time.perf_counter()
    table = pandas.read_csv(path, nrows=PEER_NOTES).drop_duplicates().dropna()
    table["charttime"] = pandas.to_datetime(table["charttime"])
    for column in ("input", "target"):
        lowered = table[column].str.lower()
        plain = lowered.str.replace(r"[^a-z\s]", "", regex=True)
        plain = plain.str.replace(r"\s+", " ", regex=True).str.strip()
        table[f"tokenized_{column}"] = plain.apply(tokenizer.tokenize)
        table[f"lemmatized_{column}"] = table[f"tokenized_{column}"].apply(
            lambda words: [lemmatize(word) for word in words if word not in STOP_WORDS]
        )
    counts = Counter(word for words in table["lemmatized_input"] for word in words)
    table["filtered_input"] = table["lemmatized_input"].apply(
        lambda words: [word for word in words if counts[word] > 2]
    )
    table["final_input"] = table["filtered_input"].apply(" ".join)
    table["final_target"] = table["lemmatized_target"].apply(" ".join)
    table[["final_input", "final_target"]].to_csv(output, index=False)
    return time.perf_counter() - began


def make_lemmatizer() -> Any:
    """NLTK's WordNet lemmatizer on Debian's dictionary, loaded and warm."""
    import nltk.corpus
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.stem import WordNetLemmatizer

    folder = Path(tempfile.mkdtemp()) / "wordnet"
    shutil.copytree(WORDNET, folder)
    nltk.data.path.append(str(folder.parent))
    # Debian leaves this table of 45 section names out; lemmas do not depend on it
    if not (folder / "lexnames").exists():
        lines = (f"{number:02d}\tsection\t1\n" for number in range(45))
        (folder / "lexnames").write_text("".join(lines), encoding="utf-8")

    class Dictionary(WordNetCorpusReader):
        def map_wn(self, version: str = "wordnet") -> None:
            """No tables between versions of WordNet: lemmas do not depend on them either."""

    nltk.corpus.wordnet = Dictionary(str(folder), None)
    lemmatize = WordNetLemmatizer().lemmatize
    if lemmatize("kidneys") != "kidney":
        raise SystemExit("the lemmatizer does not work")
    return lemmatize


if __name__ == "__main__":
    main()
