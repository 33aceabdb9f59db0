"""The table of a finished recipe as JSON: every model's scores, and how long each step took.

medllm run --config pubmedqa && python scripts/benchmarks/road.py runs/pubmedqa NAME
"""

import json
import sys
from pathlib import Path

import measure


def main() -> None:
    """Read the manifests of a run, print its scores, write the JSON."""
    root, name = Path(sys.argv[1]), sys.argv[2]
    manifests = {
        path.parent.relative_to(root).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("medllm.json"))
    }
    scores = manifests["evaluate"]["results"]["scores"]
    for row in scores:
        value = row.get("accuracy", row.get("perplexity"))
        print(f"{row['model']:<14} {row['task']:<10} {value:.4f}")
    tuned = manifests["finetune"]["results"]
    steps = {
        "counts": {verb: m["counts"] for verb, m in manifests.items()},
        "finetune": {key: tuned[key] for key in sorted(tuned) if key != "rows"},
        "merge": manifests["merge"]["results"],
    }
    environment = manifests["evaluate"]["environment"]
    measure.write(name, {"environment": environment, **steps, "scores": scores})


if __name__ == "__main__":
    main()
