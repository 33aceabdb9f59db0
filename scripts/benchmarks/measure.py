"""Time and peak memory of whole processes, and the JSON that a benchmark leaves."""

import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parents[2] / "docs" / "benchmarks"
Stretch = tuple[float, float]
"""A beginning and an end, by `time.perf_counter`, which all processes of a machine share."""
FIGURES = "figures.json"


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


@dataclass(frozen=True)
class Ran:
    """A process that came to its end by turns."""

    figures: dict[str, Any]
    """What it found out itself."""
    stretches: list[Stretch]
    """When it ran."""

    def seconds(self, span: Stretch = (-math.inf, math.inf)) -> float:
        """How long it ran, or how long within a span."""
        first, last = span
        return sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in self.stretches)


def run_in_turns(commands: Mapping[str, Sequence[str]], room: Path) -> dict[str, Ran]:
    """Run Python scripts that leave `figures.json` in their folders, which are `room / name`.

    One runs at a time, for a second each, to their ends. So they meet the same machine, however its
    speed changes; that of a virtual one changes by half within minutes.
    """
    processes = {who: _start(command, room / who) for who, command in commands.items()}
    stretches = _take_turns(processes)
    return {who: Ran(_read_figures(room / who), stretches[who]) for who in commands}


def _start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _read_figures(folder: Path) -> dict[str, Any]:
    figures = folder / FIGURES
    if not figures.is_file():
        sys.exit((folder / "output").read_text(encoding="utf-8"))
    return dict(json.loads(figures.read_text(encoding="utf-8")))


def _take_turns(processes: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, list[Stretch]]:
    """When each ran."""
    ran: dict[str, list[Stretch]] = {who: [] for who in processes}
    try:
        for process in processes.values():
            os.killpg(process.pid, signal.SIGSTOP)
        while running := [who for who, process in processes.items() if process.poll() is None]:
            for who in running:
                began, process = time.perf_counter(), processes[who]
                os.killpg(process.pid, signal.SIGCONT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGSTOP)
                ran[who].append((began, time.perf_counter()))
    finally:
        for process in processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return ran


def write(name: str, results: Mapping[str, Any], *, smoke: bool = False) -> None:
    """Write `docs/benchmarks/<name>.json` with the machine and the versions beside the results.

    MEDLLM_BENCHMARKS names another folder. A smoke run's figures mean nothing: they are written
    there alone, and say what they are.
    """
    elsewhere = os.environ.get("MEDLLM_BENCHMARKS")
    if smoke and not elsewhere:
        return
    machine = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    about = {"machine": machine, **({"smoke": True} if smoke else {})}
    path = (Path(elsewhere) if elsewhere else DOCUMENTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, **results}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
