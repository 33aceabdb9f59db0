"""Multiple choice by likelihood beside lm-evaluation-harness's HF backend, by turns on one machine.

    python scripts/benchmarks/evaluate.py --peer PYTHON --data DIR --model DIR [--limit N]

`--peer` is the Python of an environment with lm-eval 0.4.13 and the same torch and transformers;
`--data` holds `pubmedqa`, `medmcqa` and `mmlu` as they were released. The peer reads the same rows
through YAML tasks of its own, with its own prompt functions, and takes the best of several batch
sizes on each task. Both compute in float32 on the same number of threads. Prompts longer than 2,048
tokens are left out of both, and counted. Writes docs/benchmarks/evaluate.json: questions a second,
and every question that the two answer unlike.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).parent
THREADS = "2"
TASKS = {"pubmedqa": 0, "medmcqa": 0, "mmlu_medical": 0, "mmlu_medical_5": 5}
"""What is asked, with how many worked examples."""
PEER_TASKS = {
    "pubmedqa": ["pubmedqa"],
    "medmcqa": ["medmcqa"],
    "mmlu_medical": ["anatomy", "medical_genetics"],
    "mmlu_medical_5": ["anatomy", "medical_genetics"],
}
HEAD = "output_type: multiple_choice\ndataset_path: json\ntest_split: test\n"
METRIC = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
YAML = {
    "pubmedqa": "doc_to_text: !function preprocess_pubmedqa.doc_to_text\n"
    "doc_to_target: final_decision\ndoc_to_choice: ['yes', 'no', 'maybe']\n",
    "medmcqa": "doc_to_text: !function utils_medmcqa.doc_to_text\n"
    "doc_to_target: cop\ndoc_to_choice: [A, B, C, D]\n",
    "mmlu": "description: {description}\nfewshot_split: dev\nfewshot_config: {{sampler: first_n}}\n"
    'doc_to_text: "{{{{question.strip()}}}}\\nA. {{{{choices[0]}}}}\\nB. {{{{choices[1]}}}}\\n'
    'C. {{{{choices[2]}}}}\\nD. {{{{choices[3]}}}}\\nAnswer:"\n'
    "doc_to_target: answer\ndoc_to_choice: [A, B, C, D]\n",
}
"""The tasks of lm-eval, with local rows."""


def main() -> None:
    """Lay out the rows for both, let them take turns, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--limit", type=int, help="questions of each task")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": THREADS, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        lay_out(asked.data, room, asked.limit)
        results, versions = {}, dict[str, Any]()
        for name, shots in TASKS.items():
            ran = measure_task(asked.peer, [str(room), str(asked.model.resolve())], name, shots)
            results[name] = compare(ran) | {"num_fewshot": shots}
            versions = {who: each.figures["versions"] for who, each in ran.items()}
            print(name, json.dumps(results[name]["questions_per_second"]), flush=True)
    about = {"model": asked.model.name, "dtype": "float32", "threads": int(THREADS)}
    about |= {"load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1)}
    measure.write(
        "evaluate", {**about, "versions": versions, "tasks": results, "together": total(results)}
    )
    print(json.dumps(results, indent=1))


def measure_task(
    peer: str, arguments: Sequence[str], name: str, shots: int
) -> dict[str, measure.Ran]:
    """Both on one task, by turns; before that the peer tries its batch sizes alone."""
    room, asked = Path(arguments[0]), [*arguments, name, str(shots)]
    of_peer = [peer, str(HERE / "evaluate_peer.py"), *asked, json.dumps(PEER_TASKS[name])]
    run_peer = ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *of_peer]
    first, both = room / f"{name}-sizes", room / name
    for folder in (first, both):
        folder.mkdir()
    tried = measure.run_in_turns({"lm-eval": [*run_peer, ""]}, first)["lm-eval"].figures["tried"]
    best = min(tried, key=lambda size: float(tried[size]))
    ours = [str(HERE / "evaluate_ours.py"), *asked]
    ran = measure.run_in_turns({"medllm": ours, "lm-eval": [*run_peer, best]}, both)
    ran["lm-eval"].figures.update(batch_size=int(best), tried=tried)
    return ran


def lay_out(data: Path, room: Path, limit: int | None) -> None:
    """Write the same rows for both: as released for medllm, in the hub's columns for the peer."""
    ours, theirs = room / "data", room / "tasks"
    theirs.mkdir()
    rows = {"pubmedqa": _pubmedqa(data, ours, limit), "medmcqa": _medmcqa(data, ours, limit)}
    for name, found in rows.items():
        _write_task(theirs, name, YAML[name], {"test": found})
    for subject in PEER_TASKS["mmlu_medical"]:
        names = {split: f"{subject}_{split}" for split in ("dev", "test")}
        splits = {split: _mmlu(data, ours, name, limit) for split, name in names.items()}
        said = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        filled = YAML["mmlu"].format(description=json.dumps(said.replace("_", " ")))
        _write_task(theirs, subject, filled, splits)


def _pubmedqa(data: Path, ours: Path, limit: int | None) -> list[dict[str, Any]]:
    rows = json.loads((data / "pubmedqa/ori_pqal.json").read_text())
    test = [*json.loads((data / "pubmedqa/test_ground_truth.json").read_text())][:limit]
    kept = {pmid: row for pmid, row in rows.items() if pmid in test}
    (ours / "pubmedqa").mkdir(parents=True)
    (ours / "pubmedqa/ori_pqal.json").write_text(json.dumps(kept))
    return [{key: row[key] for key in ("QUESTION", "CONTEXTS", "final_decision")}
            for row in kept.values()]  # fmt: skip


def _medmcqa(data: Path, ours: Path, limit: int | None) -> list[dict[str, Any]]:
    lines = next((data / "medmcqa").glob("*.jsonl")).read_text().splitlines()[:limit]
    (ours / "medmcqa").mkdir()
    (ours / "medmcqa/validation.jsonl").write_text("\n".join(lines) + "\n")
    columns = ("opa", "opb", "opc", "opd")
    return [
        {"question": row["question"], "cop": row["answer"],
         **{name: text[3:] for name, text in zip(columns, row["choices"], strict=True)}}
        for row in map(json.loads, lines)
    ]  # fmt: skip


def _mmlu(data: Path, ours: Path, name: str, limit: int | None) -> list[dict[str, Any]]:
    import csv

    (ours / "mmlu_medical").mkdir(exist_ok=True)
    with (data / f"mmlu/{name}.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)][: limit if name.endswith("_test") else None]
    with (ours / f"mmlu_medical/{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return [{"question": row["question"], "choices": [row[f"choice{n}"] for n in range(4)],
             "answer": int(row["answer"])} for row in rows]  # fmt: skip


def _write_task(
    folder: Path, name: str, fields: str, splits: Mapping[str, Sequence[dict[str, Any]]]
) -> None:
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}_{split}.jsonl").write_text(text)
    files = "".join(f"    {split}: {folder}/{name}_{split}.jsonl\n" for split in splits)
    kwargs = f"dataset_kwargs:\n  data_files:\n{files}"
    (folder / f"{name}.yaml").write_text(f"task: local_{name}\n{HEAD}{kwargs}{fields}{METRIC}")


def compare(ran: Mapping[str, measure.Ran]) -> dict[str, Any]:
    """Questions a second of both on a task, and where their answers differ.

    medllm scores the task several times while the peer does it once, so that both meet the same
    machine; its time is the mean.
    """
    found = {who: each.figures for who, each in ran.items()}
    ours, theirs = found["medllm"]["scores"], found["lm-eval"]["scores"]
    if ours.keys() != theirs.keys():
        sys.exit("the two were not asked the same prompts")
    seconds = {
        who: ran[who].seconds(tuple(each["span"])) / each["rounds"] for who, each in found.items()
    }
    unlike = [
        {"prompt": key, "medllm": ours[key], "lm-eval": theirs[key]}
        for key in ours
        if _best(ours[key]) != _best(theirs[key])
    ]
    return {
        "questions": len(ours),
        "longer_than_2048_tokens": found["medllm"]["too_long"],
        "lm_eval_batch_size": found["lm-eval"]["batch_size"],
        "lm_eval_seconds_by_batch_size": found["lm-eval"]["tried"],
        "seconds": {who: round(took, 2) for who, took in seconds.items()},
        "questions_per_second": {who: round(len(ours) / took, 1) for who, took in seconds.items()},
        "times_lm_eval": round(seconds["lm-eval"] / seconds["medllm"], 2),
        "answers_unlike": unlike,
        "largest_difference_nats": max(
            abs(a - b) for key in ours for a, b in zip(ours[key], theirs[key], strict=True)
        ),
    }


def total(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All tasks without worked examples as one, and those with five."""
    told = {}
    for label, shots in (("0-shot", 0), ("5-shot", 5)):
        parts = [each for each in results.values() if each["num_fewshot"] == shots]
        seconds = {
            who: sum(each["seconds"][who] for each in parts) for who in ("medllm", "lm-eval")
        }
        questions = sum(each["questions"] for each in parts)
        speed = {who: round(questions / took, 1) for who, took in seconds.items()}
        times = round(seconds["lm-eval"] / seconds["medllm"], 2)
        told[label] = {"questions": questions, "questions_per_second": speed,
                       "times_lm_eval": times}  # fmt: skip
    return told


def _best(scores: Sequence[float]) -> int:
    return scores.index(max(scores))


if __name__ == "__main__":
    main()
