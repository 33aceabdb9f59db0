"""How well and how fast answers are reviewed, beside two packages of the same purpose.

    python scripts/benchmarks/clinical.py [--peers PYTHON] [--shared DIR]

`PYTHON` is that of a virtual environment with `llm-medical-guard` 0.3.0 and `healthguard` 0.1.1;
`DIR` holds the public notes and questions on which false alarms are counted. Sentences are made
from templates; what none of the packages is meant for is not asked of it.
"""

import argparse
import csv
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import measure

from medllm.clinical import review_answer

TESTS = Path(__file__).parents[2] / "tests" / "unit"
PAIRS = (
    ("warfarin", "Advil"), ("Coumadin", "aspirin"), ("sildenafil", "nitroglycerin"),
    ("Viagra", "isosorbide mononitrate"), ("simvastatin", "clarithromycin"),
    ("Zocor", "itraconazole"), ("lisinopril", "spironolactone"), ("methotrexate", "trimethoprim"),
    ("fluoxetine", "phenelzine"), ("Zoloft", "linezolid"), ("tramadol", "sertraline"),
    ("lithium", "ibuprofen"), ("digoxin", "amiodarone"), ("clopidogrel", "omeprazole"),
    ("oxycodone", "Xanax"), ("morphine", "diazepam"), ("allopurinol", "azathioprine"),
    ("tizanidine", "ciprofloxacin"), ("theophylline", "ciprofloxacin"), ("warfarin", "Bactrim"),
    ("colchicine", "clarithromycin"), ("verapamil", "propranolol"), ("apixaban", "naproxen"),
    ("methadone", "ondansetron"), ("pimozide", "clarithromycin"), ("Eliquis", "rifampicin"),
    ("sumatriptan", "ergotamine"), ("potassium chloride", "spironolactone"),
    ("levothyroxine", "calcium carbonate"), ("carbamazepine", "erythromycin"),
)  # fmt: skip
"""Written down from general knowledge for this script, not taken from the table."""
TOGETHER = ("You can take {a} together with {b}.", "Continue {a} and add {b} for the pain.")
APART = ("Do not take {a} with {b}.", "Avoid {b} while you are on {a}.")
TOO_MUCH = (
    "Take paracetamol 2 g four times a day.", "Take Tylenol 1,000 mg every 4 hours.",
    "Take ibuprofen 1600 mg three times daily.", "Take methotrexate 15 mg daily.",
    "Take acetaminophen 5000 mg per day.", "Take Advil 800 mg every 4 hours.",
    "Take aspirin 2 g every 4 hours.", "Take metformin 2000 mg twice daily.",
    "Take tramadol 200 mg three times a day.", "Take naproxen 1000 mg twice a day.",
    "Take zolpidem 20 mg at night.", "Take citalopram 80 mg daily.",
    "Take simvastatin 160 mg at night.", "Take diphenhydramine 150 mg every 4 hours.",
    "Take loperamide 12 mg every 6 hours.", "Take colchicine 1.2 mg every hour for 6 hours.",
)  # fmt: skip
ENOUGH = (
    "Take paracetamol 1 g four times a day.", "Take Tylenol 500 mg every 6 hours.",
    "Take ibuprofen 400 mg three times daily.", "Take methotrexate 15 mg once a week.",
    "Do not exceed 4 g of paracetamol a day.", "Take Advil 200 mg every 6 hours.",
    "Take metformin 1000 mg twice daily.", "Take naproxen 250 mg twice a day.",
    "Take citalopram 20 mg daily.", "Take simvastatin 40 mg at night.",
    "Take amoxicillin 500 mg three times a day.", "Take loperamide 2 mg after a loose stool.",
)  # fmt: skip
CHECKS = {"interaction": "drug_interaction", "dose": "dosage"}
"""The check of llm-medical-guard for each kind."""
PEERS = """
import json, sys
from llm_medical_guard import MedicalGuard
from healthguard import HealthGuard
guard, health = MedicalGuard(), HealthGuard()
for line in sys.stdin:
    text = json.loads(line)
    checks = {c.check_name: c.status.value for c in guard.check(text).checks}
    rules = [v.rule_id for v in health.check_response(text).violations]
    print(json.dumps({"guard": checks, "health": rules}))
"""
ALERTS = ("moderate", "major", "contraindicated")
WORDS, ROUNDS = 500, 300


def main() -> None:
    """Ask all, print tables, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--shared", type=Path, default=os.environ.get("MEDLLM_SHARED"))
    options = parser.parse_args()
    asked = [*_sentences(), *(_ordinary(options.shared) if options.shared else ())]
    figures = {
        "found": _count(asked, options.peers),
        "red_flags": _red_flags(),
        "speed": _speed(options.shared),
        "peers": "llm-medical-guard 0.3.0, healthguard 0.1.1" if options.peers else None,
    }
    for name, row in figures["found"].items():
        print(f"{name:<34}", row)
    print(figures["red_flags"], figures["speed"])
    measure.write("clinical", figures)


def _sentences() -> list[tuple[str, str, str]]:
    """What is asked: a name, the kind of finding it is about, and the text."""
    advised = [text.format(a=a, b=b) for a, b in PAIRS for text in TOGETHER]
    warned = [text.format(a=a, b=b) for a, b in PAIRS for text in APART]
    named = (
        ("interaction advised", "interaction", advised),
        ("interaction warned of", "interaction", warned),
        ("dose too high", "dose", TOO_MUCH),
        ("dose within the limits", "dose", ENOUGH),
    )
    return [(name, kind, text) for name, kind, texts in named for text in texts]


def _ordinary(shared: Path) -> list[tuple[str, str, str]]:
    csv.field_size_limit(1 << 30)
    with gzip.open(shared / "data/notes/mtsamples_shared.csv.gz", "rt") as file:
        notes = list(csv.DictReader(file))
    column = max(notes[0], key=lambda name: len(notes[0][name] or ""))
    chosen = random.Random(0).sample([row[column] for row in notes if row[column]], 300)
    answers = json.loads((shared / "data/qa/pubmedqa/ori_pqal.json").read_text())
    long = [each["LONG_ANSWER"] for each in answers.values()][:500]
    return [("ordinary notes (MTSamples)", "any", text) for text in chosen] + [
        ("ordinary answers (PubMedQA)", "any", text) for text in long
    ]


def _count(asked: list[tuple[str, str, str]], peers: Path | None) -> dict[str, Any]:
    """For each name how many texts there are, and in how many each package found something."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    theirs = _ask_peers([text for _, _, text in asked], peers) if peers else [None] * len(asked)
    for (name, kind, text), other in zip(asked, theirs, strict=True):
        found = [
            each
            for each in review_answer(text).report.findings
            if each.severity in ALERTS and kind in {"any", each.kind}
        ]
        counts[name]["texts"] += 1
        counts[name]["medllm"] += bool(found)
        if other is not None:
            counts[name]["llm-medical-guard"] += _guard_alerts(other["guard"], kind)
            counts[name]["healthguard"] += _health_alerts(other["health"], kind)
    return {name: dict(found) for name, found in counts.items()}


def _ask_peers(texts: list[str], python: Path) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run(
        [python, "-c", PEERS], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _guard_alerts(checks: dict[str, str], kind: str) -> bool:
    """Of its checks those of doses and interactions; it asks for disclaimers and sources, too."""
    names = [CHECKS[kind]] if kind in CHECKS else [*CHECKS.values()]
    return any(checks.get(name) not in {None, "pass"} for name in names)


def _health_alerts(rules: list[str], kind: str) -> bool:
    """It checks doses; its policy on diagnoses and names of drugs counts for whole texts alone."""
    dosage = [each for each in rules if not each.startswith("CS-")]
    return bool(rules if kind == "any" else dosage if kind == "dose" else [])


def _red_flags() -> dict[str, Any]:
    """Questions of emergencies found in their family and in any, and ordinary ones flagged."""
    lines = (TESTS / "red_flag_questions.tsv").read_text().splitlines()
    asked = [line.split("\t") for line in lines]
    found = [_families(question) for _, question in asked]
    own = sum(family in each for (family, _), each in zip(asked, found, strict=True))
    ordinary = (TESTS / "ordinary_questions.txt").read_text().splitlines()
    return {
        "questions": len(asked),
        "in_their_family": own,
        "in_any": sum(map(bool, found)),
        "ordinary": len(ordinary),
        "ordinary_flagged": sum(bool(_families(each)) for each in ordinary),
    }


def _families(question: str) -> set[str]:
    findings = review_answer("Rest.", question=question).report.findings
    return {each.rule.partition(".")[2] for each in findings if each.kind == "red flag"}


def _speed(shared: Path | None) -> dict[str, float]:
    """Milliseconds of CPU for an answer of 500 words, and for the first review in a process.

    `dense` is an answer of nothing but prescriptions; `answers` are those of a public data set.
    """
    dense = " ".join((*TOO_MUCH, *ENOUGH, *(text for _, _, text in _sentences()[:60])))
    texts = {"dense": [f"{_cut(dense)} Number {number}." for number in range(ROUNDS)]}
    if shared:
        with gzip.open(shared / "data/qa/medquad/medquad_sample.jsonl.gz", "rt") as file:
            answers = [json.loads(line)["answer"] for line in file]
        texts["answers"] = [_cut(" ".join(answers[at : at + 5])) for at in range(ROUNDS)]
    found = review_answer(texts["dense"][0]).report.findings
    figures: dict[str, float] = {"words": WORDS, "dense_findings": len(found)}
    for name, some in texts.items():
        took = [*map(_milliseconds, some)]
        figures[f"{name}_median_ms"] = round(statistics.median(took), 2)
        figures[f"{name}_p95_ms"] = round(statistics.quantiles(took, n=20)[-1], 2)
    with_imports, rules = (min(each) for each in zip(*_loads(), strict=True))
    figures["loading_rules_ms"] = round(rules, 0)
    return figures | {"first_review_with_imports_ms": round(with_imports, 0)}


def _cut(text: str) -> str:
    words = text.split()
    return " ".join((words * (WORDS // len(words) + 1))[:WORDS])


def _milliseconds(answer: str) -> float:
    began = time.process_time()
    review_answer(answer, question="My chest feels tight and my arm hurts.")
    return (time.process_time() - began) * 1000


def _loads() -> list[tuple[float, float]]:
    """A process's first review, with its imports and without them: what loads the rules."""
    code = (
        "import time; began = time.process_time(); "
        "from medllm.clinical import review_answer; imported = time.process_time(); "
        "review_answer('Take 1 g of paracetamol.'); ended = time.process_time(); "
        "print((ended - began) * 1000, (ended - imported) * 1000)"
    )
    command = [sys.executable, "-c", code]
    place = tempfile.gettempdir()
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=place)
            for _ in range(5)]  # fmt: skip
    return [tuple(map(float, each.stdout.split())) for each in runs]  # type: ignore[misc]


if __name__ == "__main__":
    main()
