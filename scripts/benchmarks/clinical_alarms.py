"""What the review says of ordinary public texts, which are mostly right, by kind of finding.

    python scripts/benchmarks/clinical_alarms.py --shared DIR

`DIR` holds the public notes and questions that `docs/benchmarks/clinical-alarms.json` was made of.
It also counts the stances that are right on the written list, and the misspelt names found.
"""

import argparse
import csv
import gzip
import json
import os
import random
import runpy
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import measure

from medllm.clinical import review_answer
from medllm.clinical.rules.knowledge import shipped_knowledge

TESTS = Path(__file__).parents[2] / "tests" / "unit"
MISSPELT = 400
LEAST_LETTERS = 7
"""Of a name that is misspelt: a short one with a wrong letter may be another word."""
Pair = tuple[str, str]
"""A question, empty where there is none, and an answer."""


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=os.environ.get("MEDLLM_SHARED"))
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    if not options.shared:
        parser.error("name the folder of the public texts with --shared")
    figures: dict[str, Any] = {
        name: count(list(pairs)[: options.limit]) for name, pairs in corpora(options.shared).items()
    }
    figures["stances right"] = stances()
    figures["misspelt drugs"] = misspelt()
    for name, found in figures.items():
        print(name, found)
    measure.write("clinical-alarms", figures, smoke=options.limit is not None)


def corpora(shared: Path) -> dict[str, Iterable[Pair]]:
    """The texts by the name of their data set."""
    data = shared / "data"
    return {
        "MTSamples": notes(data / "notes/mtsamples_shared.csv.gz"),
        "PubMedQA": (
            (each["QUESTION"], each["LONG_ANSWER"])
            for each in json.loads((data / "qa/pubmedqa/ori_pqal.json").read_text()).values()
        ),
        "MedMCQA": (
            (row["question"], row["choices"][row["answer"]])
            for row in lines((data / "qa/medmcqa/medmcqa_validation_sample_1000.jsonl").open())
        ),
        "MedQuAD": (
            (row["question"], str(row["answer"] or ""))
            for row in lines(gzip.open(data / "qa/medquad/medquad_sample.jsonl.gz", "rt"))
        ),
        "ChatDoctor": (
            (row["input"], row["output"])
            for row in json.loads(gzip.open(data / "qa/chatdoctor5k.json.gz", "rt").read())
        ),
    }


def notes(path: Path) -> Iterator[Pair]:
    """The notes of MTSamples, without questions."""
    csv.field_size_limit(10**9)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from (("", row["transcription"] or "") for row in csv.DictReader(file))


def lines(file: Any) -> Iterator[dict[str, Any]]:
    """The rows of an open JSONL file."""
    with file:
        yield from map(json.loads, file)


def count(pairs: list[Pair]) -> dict[str, Any]:
    """How many texts, and of each kind the texts and the findings, by severity."""
    texts, findings = Counter[str](), Counter[str]()
    flagged = missing = 0
    for question, answer in pairs:
        found = review_answer(answer, question=question).report.findings
        texts.update({each.kind for each in found if each.severity != "info"})
        findings.update(f"{each.kind}, {each.severity}" for each in found)
        flagged += any(each.kind == "red flag" and each.where == "question" for each in found)
        missing += any(each.kind == "missing" for each in found)
    return {
        "texts": len(pairs),
        "questions flagged": flagged,
        "answers that lack what to do": missing,
        "texts with findings beyond info": dict(texts.most_common()),
        "findings": dict(findings.most_common()),
    }


def stances() -> dict[str, list[int]]:
    """Of each part of the list: stances right, all, and wrongly advised."""
    score = runpy.run_path(str(TESTS / "test_stance.py"))["score"]
    return {part: list(score(part)[:3]) for part in ("built on", "held out")}


def misspelt() -> dict[str, int]:
    """Names of drugs with one wrong letter, beside a dose, and how many get their right name."""
    draw = random.Random(0)
    names = [str(row["id"]) for row in shipped_knowledge().rows("drugs")]
    names = [name for name in names if name.isalpha() and len(name) >= LEAST_LETTERS]
    right = 0
    chosen = draw.sample(names, min(MISSPELT, len(names)))
    for name in chosen:
        at = draw.randrange(1, len(name))
        letter = draw.choice([each for each in string.ascii_lowercase if each != name[at]])
        wrong = name[:at] + letter + name[at + 1 :]
        found = review_answer(f"Take {wrong} 5 mg daily.").report.findings
        right += any(each.kind == "unknown word" and name in each.message.lower() for each in found)
    return {"names": len(chosen), "told with the right name": right}


if __name__ == "__main__":
    main()
