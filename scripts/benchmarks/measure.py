"""Time and peak memory of whole processes, and the JSON that a benchmark leaves."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parents[2] / "docs" / "benchmarks"


@dataclass(frozen=True)
class Measured:
    """One finished process."""

    seconds: float
    peak_mib: float
    exit_code: int


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end, its output thrown away."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    return Measured(seconds, usage.ru_maxrss / 1024, process.returncode)


def median_seconds(runs: Sequence[Measured]) -> float:
    """The median of the wall times."""
    return statistics.median(measured.seconds for measured in runs)


def write(name: str, results: Mapping[str, Any]) -> None:
    """Write `docs/benchmarks/<name>.json` with the machine and the versions beside the results."""
    machine = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    path = DOCUMENTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, **results}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(DOCUMENTS.parents[1])}", file=sys.stderr)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
