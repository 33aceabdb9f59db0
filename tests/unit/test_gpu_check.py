"""The parts of scripts/gpu_check.sh: one that fails or hangs stops no other."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from script_files import SCRIPTS, script

check = script("gpu_check")
HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
WRITES = """
import json, os, pathlib
folder = pathlib.Path(os.environ["MEDLLM_BENCHMARKS"])
folder.mkdir()
runs = {"medllm": {"seconds_a_layer": 10.2}, "bare": {"seconds_a_layer": 10.0}}
ratio = {"seconds_a_layer": 1.02}
(folder / "quantize-gpu.json").write_text(json.dumps({"runs": runs, "medllm / bare": ratio}))
"""
TORN = """tests/gpu/test_road.py::test_a[x y] PASSED                       [ 33%]
tests/gpu/test_road.py::test_b some words of a library
FAILED                                                                  [ 66%]
tests/gpu/test_road.py::test_c SKIPPED (torch sees no CUDA GPU)         [100%]
"""
NAMED_AGAIN = """
=========================== warnings summary ============================
tests/gpu/test_road.py::test_a[x y]
  a library warns
======================== short test summary info ========================
SKIPPED [1] tests/gpu/test_road.py:16: torch sees no CUDA GPU
"""


def is_running(process: int) -> bool:
    """Whether there is such a process, other than one that only waits to be counted."""
    status = Path(f"/proc/{process}/status")
    return status.is_file() and "\nState:\tZ" not in status.read_text()


def test_a_part_that_fails_tells_its_last_words(tmp_path: Path) -> None:
    part = check.Part("finetune", ["-c", "import sys; sys.exit('no card')"], 60, check.of_arms)

    found = check.run(part, tmp_path, tmp_path, 60)

    assert (found.outcome, found.figures) == ("failed", ["no card"])
    assert (tmp_path / "finetune.log").read_text() == "no card\n"


def test_a_part_that_hangs_is_ended_with_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        assert is_running(child)

        assert check.wait(process, 0.1) == "out of time"

    assert process.returncode < 0
    deadline = time.monotonic() + 10  # a killed process takes a moment to go
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def test_the_table_and_the_json_hold_the_figures_of_each_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = check.Part("quantize", ["-c", WRITES], 60, check.of_runs, "quantize-gpu")
    late = check.Part("answers", [], 60, check.of_answers)

    found = [check.run(part, tmp_path, tmp_path, 60), check.not_begun(late)]
    check.tell(found, tmp_path, smoke=True)

    assert "quantize: passed after" in capsys.readouterr().out
    table = (tmp_path / "summary.txt").read_text()
    assert "a smoke run: the figures mean nothing" in table
    assert "medllm / bare: a layer 1.02" in table
    content = json.loads((tmp_path / "summary.json").read_text())
    assert [each["outcome"] for each in content["parts"]] == ["passed", "not begun"]
    assert content["parts"][0]["result"]["medllm / bare"] == {"seconds_a_layer": 1.02}


def test_a_part_of_which_one_arm_failed_passes_in_part(tmp_path: Path) -> None:
    says = (
        """print('lora: {"useful_tokens_per_second": 5577.4}\\nqlora: {"failed": "no memory"}')"""
    )
    part = check.Part("finetune", ["-c", says], 60, check.of_arms)

    found = check.run(part, tmp_path, tmp_path, 60)

    assert found.outcome == "in part"
    assert found.figures == ["lora: tokens/s 5577", "qlora: failed: no memory"]


def test_what_a_torn_log_tells_is_counted() -> None:
    arm = {"useful_tokens_per_second": 5577.4, "share_of_matmul_rate": 0.2123}
    torn = f"lora {json.dumps(arm)}\nqlora {{"

    for said in (TORN, TORN + NAMED_AGAIN):
        assert check.of_tests(said, {}) == ["1 failed, 1 passed, 1 skipped", "FAILED: test_b"]
    assert check.of_arms(torn, {}) == ["lora: tokens/s 5577, of the matmul rate 0.2123"]


def test_a_part_may_use_the_time_that_earlier_ones_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.time, "monotonic", lambda: 1000.0)
    part = check.Part("finetune", [], 165, check.of_arms)

    assert check.limit_of(part, later=170, ends=1000.0 + 500 + check.TO_END) == 330
    assert check.limit_of(part, later=170, ends=1000.0 + 200 + check.TO_END) == 165
    assert check.limit_of(part, later=170, ends=1000.0 + 20 + check.TO_END) == 20


def test_all_parts_fit_into_nine_minutes(tmp_path: Path) -> None:
    parts = check.parts_of(False, tmp_path)

    assert sum(part.limit for part in parts) + check.TO_END <= check.IN_ALL < 9 * 60
    files = [word for part in parts for word in part.command if word.endswith(".py")]
    assert len(files) >= len(parts)
    assert all((SCRIPTS.parent / file).is_file() for file in files)
    tests = {str(file) for file in SCRIPTS.parent.glob("tests/gpu/test_*.py")}
    assert tests <= set(files)
