"""The scores of a finished recipe as JSON: every model on every task, with its settings.

`pubmedqa-tiny-med.json` came from

medllm run --config pubmedqa --set finetune.training.num_train_epochs=1 --set evaluate.limit=200
python scripts/benchmarks/road.py runs/pubmedqa pubmedqa-tiny-med

with MEDLLM_MODEL a Llama of 6.8 million parameters, trained on medical prose and unpublished: with
another model other figures come out.
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
    changed = ("num_train_epochs", "max_steps", "learning_rate", "per_device_train_batch_size")
    training = manifests["finetune"]["settings"]["training"]
    settings = {key: training[key] for key in changed}
    settings |= {"limit": manifests["evaluate"]["settings"]["limit"]}
    settings |= {"samples": manifests["calibrate"]["settings"]["samples"]}
    steps = {
        "settings": settings,
        "counts": {verb: m["counts"] for verb, m in manifests.items()},
        "finetune": {key: tuned[key] for key in sorted(tuned) if key != "rows"},
        "merge": manifests["merge"]["results"],
    }
    environment = manifests["evaluate"]["environment"]
    measure.write(name, {"environment": environment, **steps, "scores": scores})


if __name__ == "__main__":
    main()
