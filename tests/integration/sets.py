"""Calibration sets of generated reports, as a user's own folder has them."""

import json
from pathlib import Path
from random import Random

from medllm.data.generators import radiology


def write_reports(folder: Path, count: int) -> Path:
    """A folder with `calibration.jsonl` of so many reports."""
    folder.mkdir(parents=True)
    texts = (radiology.build_report(Random(f"r-{n}")).text for n in range(count))
    rows = (json.dumps({"id": f"r/{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    (folder / "calibration.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder
