"""Time and peak memory of `medllm calibrate` as the corpus grows 32-fold: neither may follow it.

    python scripts/benchmarks/calibrate_memory.py ori_pqal.json MODEL

The corpus is PubMedQA's release, and copies of it with other ids in one JSON document.
"""

import json
import sys
import tempfile
from pathlib import Path

import measure

COPIES = (1, 8, 32)
SAMPLES = 256


def main() -> None:
    """Measure each size, print a table, write the JSON."""
    release, model = Path(sys.argv[1]), sys.argv[2]
    rows = json.loads(release.read_text(encoding="utf-8"))
    sizes = []
    for copies in COPIES:
        with tempfile.TemporaryDirectory() as room:
            folder = Path(room) / "pubmedqa"
            folder.mkdir()
            many = {
                f"{n}{key}" if n else key: row for n in range(copies) for key, row in rows.items()
            }
            (folder / release.name).write_text(json.dumps(many), encoding="utf-8")
            mib = (folder / release.name).stat().st_size / 2**20
            measured = measure.run(_command(room, model))
        row = {
            "rows": len(many),
            "corpus_mib": round(mib, 1),
            "seconds": round(measured.seconds, 2),
            "peak_mib": round(measured.peak_mib),
            "exit_code": measured.exit_code,
        }
        sizes.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    measure.write("calibrate-memory", {"samples": SAMPLES, "sizes": sizes})


def _command(room: str, model: str) -> list[str]:
    options = {"--mix": "pubmedqa", "--samples": str(SAMPLES), "--tokenizer": model}
    places = {"--data-dir": room, "--output": f"{room}/out"}
    flags = [text for pair in {**options, **places}.items() for text in pair]
    return [sys.executable, "-m", "medllm", "calibrate", *flags]


if __name__ == "__main__":
    main()
