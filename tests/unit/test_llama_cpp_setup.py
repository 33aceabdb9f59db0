"""The set-up of llama.cpp against a stand-in for pip: a real program that does what pip would."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from medllm.engines import llama_cpp_setup
from medllm.errors import SetupError

VERSION = "0.0.1"  # never installed
ROOT = f"llama_cpp_python-{VERSION}"
WHEEL = f"{ROOT}-py3-none-any.whl"

PIP = """#!{python}
import os, pathlib, shutil, sys
arguments = sys.argv[4:]  # after: -m pip --disable-pip-version-check
here = pathlib.Path(__file__).parent
with open(here / "calls.txt", "a") as calls:
    print(arguments[0], os.environ["CMAKE_ARGS"], file=calls)
if arguments[0] == (here / "failing.txt").read_text():
    print("[1/3] g++ a.cpp")
    print("fatal error: no such file: Python.h")
    sys.exit(1)
if arguments[0] == "download":
    shutil.copy(here / "release.tar.gz", pathlib.Path(arguments[-2]) / "{sdist}")
if arguments[0] == "wheel":
    print("  [1/3] g++ a.cpp\\n  [2/3] g++ b.cpp\\n  [3/3] ld")
    (pathlib.Path(arguments[-2]) / "{wheel}").write_text("a wheel")
"""


class Machine:
    """A cache folder and a stand-in for pip."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "tools"
        self.cache = folder / "cache"
        self.kept = self.cache / "llama.cpp" / VERSION
        self.tools.mkdir()
        self.python = self.tools / "python"
        self.python.write_text(
            PIP.format(python=sys.executable, sdist=f"{ROOT}.tar.gz", wheel=WHEEL)
        )
        self.python.chmod(0o755)
        self.fail_at("nothing")

    def fail_at(self, command: str) -> None:
        (self.tools / "failing.txt").write_text(command)

    @property
    def calls(self) -> list[str]:
        """What pip was told to do, each with the CMAKE_ARGS it was given."""
        calls = self.tools / "calls.txt"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def commands(self) -> list[str]:
        return [call.split()[0] for call in self.calls]


def write_release(path: Path) -> str:
    """Write a source distribution like that of llama-cpp-python; returns its digest."""
    names = (
        "pyproject.toml",
        "vendor/llama.cpp/LICENSE",
        "vendor/llama.cpp/convert_hf_to_gguf.py",
        "vendor/llama.cpp/conversion/llama.py",
        "vendor/llama.cpp/gguf-py/gguf/__init__.py",
        "vendor/llama.cpp/src/llama.cpp",
    )
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"{ROOT}/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    digest = write_release(made.tools / "release.tar.gz")
    monkeypatch.setattr(llama_cpp_setup, "VERSION", VERSION)
    monkeypatch.setattr(llama_cpp_setup, "SDIST", f"{ROOT}.tar.gz")
    monkeypatch.setattr(llama_cpp_setup, "SDIST_SHA256", digest)
    monkeypatch.setattr(sys, "executable", str(made.python))
    monkeypatch.setenv("MEDLLM_CACHE_DIR", str(made.cache))
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.delenv("MEDLLM_LLAMA_CPP", raising=False)
    return made


def pretend_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    described = folder / "cpuinfo"
    described.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: x\n")
    monkeypatch.setattr(llama_cpp_setup, "CPU_INFO", described)


def test_set_up_builds_installs_and_keeps_the_converter(machine: Machine) -> None:
    llama_cpp_setup.set_up()

    assert machine.commands == ["download", "wheel", "install"]
    assert (machine.kept / llama_cpp_setup.cpu_key() / WHEEL).read_text() == "a wheel"
    converter = machine.kept / "converter"
    kept = sorted(path.relative_to(converter).as_posix() for path in converter.rglob("*.*"))
    assert kept == ["conversion/llama.py", "convert_hf_to_gguf.py", "gguf-py/gguf/__init__.py"]
    assert (converter / "LICENSE").is_file()
    assert llama_cpp_setup.converter_script() == converter / "convert_hf_to_gguf.py"
    assert not list(machine.kept.glob("*.tar.gz")), "76 MB of no more use"


def test_a_wheel_that_was_built_is_used_again(machine: Machine) -> None:
    llama_cpp_setup.set_up()
    llama_cpp_setup.set_up()

    assert machine.commands == ["download", "wheel", "install", "install"]


def test_a_failed_build_shows_the_last_lines_and_the_log(machine: Machine) -> None:
    machine.fail_at("wheel")

    with pytest.raises(SetupError) as caught:
        llama_cpp_setup.set_up()

    log = machine.kept / llama_cpp_setup.cpu_key() / "build.log"
    assert "no such file: Python.h" in caught.value.message
    assert str(log) in caught.value.message
    assert "Python.h" in log.read_text()
    assert "python3-dev" in caught.value.fix
    assert not list(machine.kept.rglob("*.whl"))
    assert (machine.kept / f"{ROOT}.tar.gz").is_file(), "kept for the next attempt"


def test_a_failed_download_says_where_to_put_the_source(machine: Machine) -> None:
    machine.fail_at("download")

    with pytest.raises(SetupError) as caught:
        llama_cpp_setup.set_up()

    assert f"put {ROOT}.tar.gz into {machine.kept}" in caught.value.fix


def test_another_source_than_the_published_one_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp_setup, "SDIST_SHA256", "0" * 64)

    with pytest.raises(SetupError, match="not the file that was published"):
        llama_cpp_setup.set_up()

    assert machine.commands == ["download"]


def test_without_a_compiler_nothing_is_fetched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(machine.tools))

    with pytest.raises(SetupError) as caught:
        llama_cpp_setup.set_up()

    assert "build-essential" in caught.value.fix
    assert machine.commands == []


def test_builds_leave_out_amx_unless_cmake_args_are_given(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_cpu(tmp_path, monkeypatch, "sse4_2 avx512f amx_int8")
    llama_cpp_setup.set_up()
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=ON")
    llama_cpp_setup.set_up()

    first, second = (call for call in machine.calls if call.startswith("wheel"))
    assert "-mno-amx-int8" in first
    assert "-DLLAVA_BUILD=OFF" in first
    assert second.startswith("wheel -DGGML_CUDA=ON -DCMAKE_PROJECT_llama.cpp_INCLUDE=/")
    assert "amx" not in second


def test_the_key_of_a_cpu_depends_on_its_flags_and_the_cmake_args(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    pretend_cpu(tmp_path, monkeypatch, "sse4_2 avx2")
    old = llama_cpp_setup.cpu_key()
    pretend_cpu(tmp_path, monkeypatch, "avx2 sse4_2")
    assert llama_cpp_setup.cpu_key() == old, "the order of flags means nothing"

    pretend_cpu(tmp_path, monkeypatch, "sse4_2 avx2 avx512f")
    newer = llama_cpp_setup.cpu_key()
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=ON")
    with_cuda = llama_cpp_setup.cpu_key()

    assert len({old, newer, with_cuda}) == 3
    assert len(old) == 12


def test_the_key_exists_where_cpus_are_not_described(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(llama_cpp_setup, "CPU_INFO", tmp_path / "none")

    assert llama_cpp_setup.cpu_key()


def test_a_checkout_of_llama_cpp_wins(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    llama_cpp_setup.set_up()
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.setenv("MEDLLM_LLAMA_CPP", str(checkout))

    with pytest.raises(SetupError, match="holds no convert_hf_to_gguf.py"):
        llama_cpp_setup.converter_script()

    (checkout / "convert_hf_to_gguf.py").touch()
    assert llama_cpp_setup.converter_script() == checkout / "convert_hf_to_gguf.py"


def test_without_a_set_up_the_fix_is_one_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)

    for need in (llama_cpp_setup.converter_script, llama_cpp_setup.require_llama_cpp):
        with pytest.raises(SetupError) as caught:
            need()
        assert caught.value.fix == "run `medllm doctor --set-up-llama-cpp`"
    assert machine.commands == []
