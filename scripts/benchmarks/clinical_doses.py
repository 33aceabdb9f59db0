"""How well prescriptions are read, and how often the check of doses speaks in ordinary texts.

python scripts/benchmarks/clinical_doses.py [NOTES.csv.gz …]

The list is `tests/unit/sig_strings.txt`, that of drugs that are often used is
`tests/unit/common_drugs.txt`; NOTES are gzipped CSV files with a column `transcription`
(MTSamples), or JSONL files with a field `answer` (MedQuAD).
"""

import csv
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medllm.clinical.case import Case
from medllm.clinical.doses.checks import find_doses
from medllm.clinical.doses.limits import build_limits
from medllm.clinical.drugs.mentions import find_drugs
from medllm.clinical.finding import Finding
from medllm.clinical.patient import Patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read
from medllm.measures.intervals import estimate_proportion

TESTS = Path(__file__).parents[2] / "tests" / "unit"
sys.path.append(str(TESTS))
PARTS = ("built on", "held out", "added later")
PLACES = ("outside hospital", "in hospital")


def main() -> None:
    """Print a table and write the JSON."""
    import measure

    figures: dict[str, object] = {part: count_sigs(part) for part in PARTS}
    figures["table"] = count_table()
    figures |= {f"drugs often used {where}": count_common(where) for where in PLACES}
    figures |= {path.name: count_findings(path) for path in map(Path, sys.argv[1:])}
    for name, row in figures.items():
        print(f"{name:36}{row}")
    measure.write("clinical-doses", figures)


def count_sigs(part: str) -> dict[str, object]:
    """Sigs that are right in drug, dose, frequency, total and limit; rows that are right whole."""
    from sig_notation import decisive, reading_of, rows, sigs_of

    right = found = wanted = whole = 0
    for text, expected in rows(part):
        got = [reading_of(each) for each in sigs_of(text)]
        right += sum(decisive(each) in map(decisive, got) for each in expected)
        found, wanted = found + len(got), wanted + len(expected)
        whole += sorted(map(sorted, got)) == sorted(map(sorted, expected))
    return {
        "rows": len(rows(part)), "whole": whole, "right": right, "read": found, "wanted": wanted,
        "precision": interval(right, found), "recall": interval(right, wanted),
    }  # fmt: skip


def count_table() -> dict[str, int]:
    """The drugs and the rows of the table."""
    limits = shipped_knowledge().built(build_limits)
    return {"drugs": len(limits), "rows": sum(map(len, limits.values()))}


def count_common(where: str) -> dict[str, int | list[str]]:
    """Of the drugs that are often used there: how many are known and have a limit; which do not."""
    knowledge = shipped_knowledge()
    limits, counts, without = knowledge.built(build_limits), Counter[str](), list[str]()
    listed = (TESTS / "common_drugs.txt").read_text().split(f"# {where}\n")[1].split("#")[0]
    for name in listed.replace("\n", " ").split(";"):
        found = find_drugs(read(f"Take {name.strip()} 5 mg daily."), knowledge)
        drugs = [drug for each in found for drug in each.drugs]
        is_limited = any(each in limits for each in drugs)
        counts.update(listed=1, known=bool(drugs), limited=is_limited)
        without += [] if is_limited else [name.strip()]
    return {**counts, "without": without}


def interval(right: int, of: int) -> list[float]:
    """A share with its 95 % interval."""
    estimate = estimate_proportion(right, of)
    return [round(each, 3) for each in (estimate.value, estimate.low, estimate.high)]


def count_findings(path: Path) -> dict[str, int]:
    """The texts of a file, and the findings on doses in them, by severity."""
    knowledge, counts = shipped_knowledge(), Counter[str]()
    for text in texts(path):
        case = Case(read(text), read(""), Patient(), knowledge, Policy())
        counts["texts"] += 1
        counts.update(each.severity for each in find_doses(case) if isinstance(each, Finding))
    return dict(counts)


def texts(path: Path) -> Iterator[str]:
    """The texts of a gzipped CSV or JSONL file."""
    csv.field_size_limit(10**9)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            yield from (row["transcription"] or "" for row in csv.DictReader(file))
        else:
            yield from (str(json.loads(line).get("answer", "")) for line in file)


if __name__ == "__main__":
    main()
