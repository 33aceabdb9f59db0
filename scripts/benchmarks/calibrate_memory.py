"""Time and peak memory of `medllm calibrate` as the corpus grows 100-fold: memory must stay.

    python scripts/benchmarks/calibrate_memory.py MODEL

The corpus has the columns of MIMIC-IV-Note's `radiology.csv.gz`, up to its 2.3 million rows; its
reports are generated, four to a row, from 2,000 that are drawn at random.
"""

import csv
import gzip
import sys
import tempfile
from pathlib import Path
from random import Random

import measure

from medllm.data.generators.radiology import build_example

ROWS = (23_000, 230_000, 2_300_000)
SAMPLES = 512
NAME = "mimic_iv_note_radiology"
COLUMNS = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text"


def main() -> None:
    """Measure each size, print a table, write the JSON."""
    model = sys.argv[1]
    sizes = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as room:
            corpus = Path(room) / NAME / "radiology.csv.gz"
            corpus.parent.mkdir()
            write_corpus(corpus, rows)
            measured = measure.run(command(room, model))
            size = {
                "rows": rows,
                "corpus_mib_gzipped": round(corpus.stat().st_size / 2**20),
                "seconds": round(measured.seconds, 1),
                "peak_mib": round(measured.peak_mib),
                "exit_code": measured.exit_code,
            }
        sizes.append(size)
        print("  ".join(f"{name} {value}" for name, value in size.items()), flush=True)
    measure.write("calibrate-memory", {"samples": SAMPLES, "sizes": sizes})


def write_corpus(path: Path, rows: int) -> None:
    """A file of MIMIC-IV-Note's form: two reports a patient, four texts a report."""
    reports = [build_example(7, 2 * number).text for number in range(2000)]
    rng = Random(0)
    with gzip.open(path, "wt", encoding="utf-8", newline="", compresslevel=1) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS.split(","))
        for number in range(rows):
            subject, text = 10_000_000 + number // 2, "\n \n".join(rng.choices(reports, k=4))
            note = f"{subject}-RR-{number}"
            writer.writerow([note, subject, "", "RR", number, "2180-05-06 21:19:00", "", text])


def command(room: str, model: str) -> list[str]:
    """`medllm calibrate` on a mix of that one dataset."""
    return [
        *(sys.executable, "-m", "medllm", "--offline", "calibrate", "--tokenizer", model),
        *("--set", f"calibrate.mix={{shares: {{{NAME}: 1}}}}", "--samples", str(SAMPLES)),
        *("--accept-terms", "mimic-iv-note", "--data-dir", room, "--output", f"{room}/out"),
    ]


if __name__ == "__main__":
    main()
