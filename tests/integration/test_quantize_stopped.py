"""quantize, killed and run again: the same result, and nothing left over."""

import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from converted import after_conversion
from sets import write_reports
from typed import COMMAND, Typed

from medllm.artifacts.manifest import Manifest, file_problems
from medllm.cli.main import run_command
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.errors import SetupError
from medllm.quantize.config import QuantizeConfig

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

GGUF = ("--format", "gguf", "--type", "Q4_K_M", "--type", "Q6_K")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reports(tmp_path_factory.mktemp("stopped") / "calibration", 48)


def command(calibration: Path, output: Path, *formats: str) -> list[str]:
    places = ["--calibration", str(calibration), "--output", str(output)]
    return ["quantize", "--model", "medllm/tiny", *formats, *places]


def config(calibration: Path, output: Path) -> QuantizeConfig:
    return QuantizeConfig(model="medllm/tiny", calibration=calibration, output=output)


def start(calibration: Path, output: Path, *formats: str) -> "subprocess.Popen[str]":
    arguments = [*COMMAND, *command(calibration, output, *formats)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ)


def kill_at(process: "subprocess.Popen[str]", output: Path, pattern: str) -> None:
    """SIGKILL as soon as there is such a file."""
    deadline = time.monotonic() + 300
    while not any(output.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def identities(output: Path) -> dict[str, str]:
    """Of each result; each is whole, and nothing lies beside them."""
    folders = sorted(output.iterdir())
    for folder in folders:
        assert file_problems(folder, Manifest.read(folder), anew=True) == []
    return {folder.name: Manifest.read(folder).identity for folder in folders}


@pytest.mark.parametrize(
    ("moment", "again"),
    [
        (".shared-*/lock", True),
        (".shared-*/.model-F16.gguf.*.partial", True),
        (".shared-*/matrix.safetensors", False),
        ("*.unfinished/.model-Q4_K_M.gguf.*.partial", False),
        ("gguf-q4_k_m/medllm.json", False),
    ],
)
def test_gguf_goes_on_after_a_kill(
    calibration: Path,
    tiny_f16: Path,
    tmp_path: Path,
    whole: dict[str, str],
    moment: str,
    again: bool,
    typed: Typed,
) -> None:
    output = tmp_path / "out"
    if not again:
        after_conversion(config(calibration, output), tiny_f16)

    with start(calibration, output, *GGUF) as process:
        kill_at(process, output, moment)
    ended = typed(*command(calibration, output, *GGUF))

    assert ended.returncode == 0, ended.stderr
    assert identities(output) == whole
    assert ("calibration tokens are few" in ended.stderr) == again, "the matrix is measured once"


@pytest.fixture(scope="module")
def whole(
    calibration: Path, tiny_f16: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    output = tmp_path_factory.mktemp("whole") / "out"
    after_conversion(config(calibration, output), tiny_f16)
    assert run_command(command(calibration, output, *GGUF)) == 0
    return identities(output)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_gptq_goes_on_at_its_layer(calibration: Path, tmp_path: Path, typed: Typed) -> None:
    if find_spec("gptqmodel") is None:
        pytest.skip("gptqmodel is not installed")
    gptq = ("--set", "quantize.formats=[{format: gptq, keep_seconds: 0}]")
    assert typed(*command(calibration, tmp_path / "whole", *gptq)).returncode == 0

    output = tmp_path / "out"
    with start(calibration, output, *gptq) as process:
        kill_at(process, output, ".shared-*/gptq-4bit.unfinished/CURRENT")
    torn = Path(shutil.copytree(output, tmp_path / "torn"))
    ended = typed(*command(calibration, output, *gptq))

    assert ended.returncode == 0, ended.stderr
    assert "resumes after the layers" in ended.stderr
    assert identities(output) == identities(tmp_path / "whole")
    written = (output / "gptq-4bit/config.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in written

    (current,) = torn.glob(".shared-*/gptq-4bit.unfinished/CURRENT")
    current.write_text("{", encoding="utf-8")
    ended = typed(*command(calibration, torn, *gptq))

    assert "starts anew" in ended.stderr
    assert identities(torn) == identities(output)
