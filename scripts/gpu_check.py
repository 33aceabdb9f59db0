"""The parts of `gpu_check.sh`: tests and benchmarks, each within its time, and a table of them.

Run it through gpu_check.sh, which says what it needs and brings what the machine lacks.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BENCHMARKS = "scripts/benchmarks"
IN_ALL = 525
"""Seconds of all parts: less than nine minutes together with the set-up."""
LEAST = 15
"""With fewer seconds left no part is begun."""
TO_END = 10
"""Seconds that a part which is told to end may take for it."""
WANTED = ("pytest", "trl", "peft", "gptqmodel", "bitsandbytes", "llmcompressor", "llama_cpp",
          "fastapi", "uvicorn", "liger_kernel", "flash_attn")  # fmt: skip
"""Packages without which something is not tested or not measured, or is done otherwise."""
MEMORY, MODEL_GIB = Path("/dev/shm"), 48  # noqa: S108
"""A folder in memory, and how much must be free there to write the model of 16 GiB to it."""

UNSLOTH = ROOT / ".gpu/unsloth"
"""Where unsloth lies installed, alone, if it is to be measured, too."""
ARMS = ("lora", "qlora", "trl-packed", "lora-again")
UNSLOTH_ARMS = ("unsloth", "unsloth-qlora")
LATER_ARMS = ("trl", "qlora-again")
"""Of finetune_gpu.py's, those that show whether its goals are met, as far as there is time; alone
it has time for all. Unsloth compiles for longer than any of the first takes."""
GPU_TESTS = {"training": ("packed", "training", "offload"), "road": ("road", "formats")}
"""Files of tests/gpu by part; the first needs no kernel, which are compiled meanwhile."""

SUMMARY = re.compile(r"^=+ (?:ERRORS|FAILURES|warnings summary|short test summary)", re.MULTILINE)

Figures = Callable[[str, Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class Part:
    """One thing to run."""

    name: str
    command: list[str]
    limit: int
    """Seconds."""
    figures: Figures
    """The chief figures, of its log and of the JSON that it wrote."""
    result: str = ""
    """The name of that JSON."""


@dataclass
class Outcome:
    """How it went."""

    name: str
    outcome: str
    """`passed`, `in part` (an arm of it failed), `failed`, `out of time` or `not begun`."""
    seconds: float = 0.0
    limit_seconds: float = 0.0
    figures: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Run the parts; 0 where all passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, help="folder of the results")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, on any machine")
    parser.add_argument("--seconds", type=int, help=f"for all parts; default {IN_ALL}")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the part ends, too
    if not asked.smoke and not has_gpu():
        sys.exit("error: torch sees no CUDA GPU here\n  fix: `--smoke` walks through without one")
    out = asked.out or Path(os.environ.get("OUT") or "gpu-check")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=roomy_folder()) as folder:
        room, began = Path(folder), time.monotonic()
        ends = began + (asked.seconds or (10 * IN_ALL if asked.smoke else IN_ALL))
        found: list[Outcome] = []
        parts = parts_of(asked.smoke, room)
        with compiling(out):
            for number, part in enumerate(parts):
                later = sum(each.limit for each in parts[number + 1 :])
                limit = limit_of(part, later, ends)
                is_time = limit >= LEAST
                found.append(run(part, out.resolve(), room, limit) if is_time else not_begun(part))
                tell(found, out, asked.smoke)
    print((out / "summary.txt").read_text(encoding="utf-8"))
    return int(any(each.outcome != "passed" for each in found))


def has_gpu() -> bool:
    """Whether torch sees one, asked in a process of its own: here nothing may lie on the card."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def roomy_folder() -> Path | None:
    """Where models are written to: in memory where there is room, else the usual one."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MODEL_GIB * 2**30
    return MEMORY if is_roomy else None


@contextmanager
def compiling(out: Path) -> Iterator[None]:
    """Meanwhile gptqmodel's kernels are compiled, beside a part that is not timed."""
    with (out / "kernels.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, f"{BENCHMARKS}/quantize_gpu.py", "--kernels"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        end(process, signal.SIGKILL)
        process.wait()


def parts_of(smoke: bool, room: Path) -> list[Part]:
    """What is run, the most important first; the limits are a Hopper card's."""
    small = ["--smoke"] if smoke else []
    kept = [*small, "--folder", str(room / "models")]
    tests = {name: command_of_tests(name, room) + small for name in GPU_TESTS}
    train = [f"{BENCHMARKS}/finetune_gpu.py", *kept, "--seconds", "600" if smoke else "100"]
    train += ["--steps", "8"]
    arms = ARMS + (UNSLOTH_ARMS if UNSLOTH.is_dir() else ()) + LATER_ARMS
    train += [word for arm in arms for word in ("--arm", arm)]
    train += ["--unsloth", str(UNSLOTH)] if UNSLOTH.is_dir() else []
    return [
        Part("training", tests["training"], 85, of_tests),
        Part("road", tests["road"], 125, of_tests),
        Part("finetune", train, 185, of_arms, "finetune-gpu"),
        Part("answers", [f"{BENCHMARKS}/answers_gpu.py", *kept], 50, of_answers, "answers-gpu"),
        # last, as a card has measured it before
        Part("quantize", [f"{BENCHMARKS}/quantize_gpu.py", *small], 70, of_runs, "quantize-gpu"),
    ]


def command_of_tests(part: str, room: Path) -> list[str]:
    """Pytest on the files of a part.

    Other versions warn of other things, and a card is seldom at hand: that is no failure.
    """
    files = [str(next(ROOT.glob(f"tests/gpu/test_{name}_*.py"))) for name in GPU_TESTS[part]]
    return ["-m", "pytest", "-vv", "--tb=short", "-rs", "-W", "default", *files,
            "-p", "no:cacheprovider", "--basetemp", str(room / f"tests-{part}")]  # fmt: skip


def limit_of(part: Part, later: int, ends: float) -> float:
    """Its seconds: its own limit, or what the parts before it left over, if that is more."""
    left = ends - time.monotonic() - TO_END
    return min(max(part.limit, left - later), left)


def not_begun(part: Part) -> Outcome:
    """What is said of a part for which no time is left."""
    return Outcome(part.name, "not begun", figures=["no time was left"])


def run(part: Part, out: Path, room: Path, limit: float) -> Outcome:
    """Run a part within its time."""
    began = time.monotonic()
    print(f"{part.name}: at most {limit:.0f} s", flush=True)
    log = out / f"{part.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env={**os.environ, "MEDLLM_BENCHMARKS": str(room / "results")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        outcome = wait(process, limit)
    said = log.read_text(encoding="utf-8", errors="replace")
    path = room / "results" / f"{part.result}.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    figures = part.figures(said, result) or last_words(said)
    if outcome == "passed" and any(": failed: " in line for line in figures):
        outcome = "in part"
    seconds = round(time.monotonic() - began, 1)
    print(f"{part.name}: {outcome} after {seconds} s", flush=True)
    return Outcome(part.name, outcome, seconds, round(limit, 1), figures, result)


def wait(process: subprocess.Popen[bytes], limit: float) -> str:
    """How it ended; it and all that it started are ended where they take too long."""
    try:
        return "failed" if process.wait(limit) else "passed"
    except subprocess.TimeoutExpired:
        end(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TO_END)
        return "out of time"
    finally:
        end(process, signal.SIGKILL)
        process.wait()


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Send a signal to its whole group, if any of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)


# The chief figures


def last_words(said: str) -> list[str]:
    """The last line of a log, which most often says what was wrong."""
    return [line.strip()[:100] for line in said.splitlines() if line.strip()][-1:]


def of_tests(said: str, _: Mapping[str, Any]) -> list[str]:
    """How many passed, and the names of those that did not; of a torn log, too."""
    said = SUMMARY.split(said)[0]  # what follows names some of them once more
    found = re.findall(r"::(\S+)(?:(?!::).)*?\b(PASSED|FAILED|ERROR|SKIPPED)\b", said, re.DOTALL)
    counts = Counter(how.lower() for _, how in found)
    wrong = sorted({f"{how}: {name}" for name, how in found if how in {"FAILED", "ERROR"}})
    return [", ".join(f"{count} {how}" for how, count in sorted(counts.items())), *wrong][:20]


def of_arms(said: str, result: Mapping[str, Any]) -> list[str]:
    """What each way to train reached; of a torn run those that ended."""
    arms = dict(result.get("arms") or {})
    if not arms:
        lines = re.findall(r"^(\S+?):? (\{.*\})$", said, re.MULTILINE)
        arms = {name: json.loads(figures) for name, figures in lines}
    apart = told(result.get("losses") or {}, {"mean_differs": "losses apart from plain TRL's"})
    found = [f"{name}: {told(figures, ARM)}" for name, figures in arms.items()]
    return [*found, apart] if apart else found


def of_runs(_: str, result: Mapping[str, Any]) -> list[str]:
    """What both took, and medllm in proportion to bare gptqmodel."""
    runs = result.get("runs", {})
    lines = [f"{who}: {told(figures, RUN)}" for who, figures in runs.items()]
    if ratio := result.get("medllm / bare"):
        lines.append(f"medllm / bare: {told(ratio, RUN)}")
    return lines


def of_answers(said: str, result: Mapping[str, Any]) -> list[str]:
    """What each kind of answer reached; of a torn run those that ended."""
    found = {name: each for name, each in result.items() if name in KINDS}
    if not found:
        lines = re.findall(r" s  (\w+): (\{.*\})$", said, re.MULTILINE)
        found = {name: json.loads(figures) for name, figures in lines}
    return [f"{name}: {told(figures, ANSWER)}" for name, figures in found.items()]


KINDS = ("score", "expect", "answer", "serve")
ARM = {
    "useful_tokens_per_second": "tokens/s",
    "share_of_matmul_rate": "of the matmul rate",
    "peak_memory_gib": "GiB",
    "failed": "failed",
}
RUN = {
    "quantize_seconds": "quantizing",
    "seconds_a_layer": "a layer",
    "of_32_layers_seconds": "of 32 layers",
    "gpu_peak_mib": "MiB on the GPU",
}
ANSWER = {
    "tokens_per_second": "tokens/s",
    "bare_tokens_per_second": "by transformers",
    "together_tokens_per_second": "together",
    "utilisation": "of the matmul rate",
    "not_measured": "not measured",
}


def told(figures: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The figures that have a name, in a line."""
    return ", ".join(
        f"{word} {figures[key]:.4g}" if isinstance(figures[key], (int, float)) else
        f"{word}: {figures[key]:.80}"
        for key, word in names.items()
        if figures.get(key) is not None
    )  # fmt: skip


# What is left


def tell(found: list[Outcome], out: Path, smoke: bool) -> None:
    """Write what is known so far: a call that is ended from outside leaves that."""
    about = machine()
    content = {"smoke": smoke, "machine": about, "parts": [asdict(each) for each in found]}
    (out / "summary.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    missing = [name for name in WANTED if find_spec(name) is None]
    lines = [", ".join(f"{key} {value}" for key, value in about.items())]
    lines += [f"not installed: {', '.join(missing)}"] if missing else []
    lines += ["a smoke run: the figures mean nothing"] if smoke else []
    lines += ["", f"{'part':<10}{'outcome':<13}{'seconds':>8}  figures"]
    for each in found:
        first, *rest = each.figures or [""]
        lines.append(f"{each.name:<10}{each.outcome:<13}{each.seconds:>8.1f}  {first}")
        lines += [f"{'':<33}{line}" for line in rest]
    (out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def machine() -> dict[str, str]:
    """The card, its driver, and the versions that count."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "trl", "gptqmodel", "bitsandbytes"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with suppress(FileNotFoundError):
        cards = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found["gpu"] = "; ".join(cards.strip().splitlines())
    return found


if __name__ == "__main__":
    sys.exit(main())
