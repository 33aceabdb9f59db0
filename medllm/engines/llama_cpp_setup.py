"""The set-up of llama.cpp: llama-cpp-python and llama-server built here, and the converter.

PyPI has no Linux wheel of llama-cpp-python, and a wheel has neither llama-server nor the HF-to-GGUF
converter; the sdist has what makes them all. So the pinned sdist is fetched once, through pip, and
one build gives a wheel that holds both; nothing is downloaded later.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from medllm import console
from medllm.artifacts.digest import digest_file, digest_text
from medllm.errors import SetupError
from medllm.places import cache_dir, passing_folder

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CONVERTER = "convert_hf_to_gguf.py"
OWN_GGUF = "medllm_converter_gguf"
CONVERTER_PARTS = re.compile(
    r"[^/]+/vendor/llama\.cpp/(convert_hf_to_gguf\.py|conversion/|gguf-py/|LICENSE$)"
)
DEFAULT_CMAKE_ARGS = "-DLLAVA_BUILD=OFF"  # no Python interface to image encoders
WITH_SERVER = Path(__file__).parent / "servers" / "llama_server.cmake"
SERVER = "llama-server"
WITHOUT_AMX = "-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8"
"""GCC 12 compiles llama.cpp's AMX code wrongly: quantized models end in a segmentation fault
(ggml-org/llama.cpp#20824; see `engines/llama_native.py`)."""
CPU_INFO = Path("/proc/cpuinfo")
COMPILERS = ("c++", "g++", "clang++")
BUILD_STEP = re.compile(r"^\s*\[\d+/(\d+)\]")  # ninja's "[70/140] /usr/bin/g++ …"
SHOWN_LOG_LINES = 8

SET_UP = "run `medllm doctor --set-up-llama-cpp`"
INSTALL_COMPILER = (
    "install a compiler (Debian, Ubuntu: apt-get install build-essential python3-dev cmake), "
    "then try again"
)


class LlamaServerMissing(SetupError):
    """There is no llama-server on this machine."""


def set_up() -> None:
    """Install llama-cpp-python and keep the converter, doing only what is not done yet.

    Raises:
        SetupError: there is no compiler, or pip fails to fetch or to build; names the log.
    """
    if is_installed():
        if not own_llama_server():
            console.notice(
                f"this {PACKAGE} has no {SERVER}, which answers several at once; to have both: "
                f"{sys.executable} -m pip uninstall {PACKAGE}, then {SET_UP}"
            )
    else:
        wheel = _wheel()
        fix = f"see the log, or install by hand: {sys.executable} -m pip install {wheel}"
        list(_pip(("install", str(wheel)), "install.log", fix))
        importlib.invalidate_caches()
    if not _cached_converter().is_file():
        _extract_converter(_sdist())
    (_folder() / SDIST).unlink(missing_ok=True)  # 76 MB, and of no more use
    console.say(f"llama.cpp is set up: {PACKAGE} {VERSION}, converter {_cached_converter()}")


def is_installed() -> bool:
    """Whether the pinned version of llama-cpp-python is installed; nothing is imported."""
    try:
        return importlib.metadata.version(PACKAGE) == VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def own_llama_server() -> Path | None:
    """The llama-server that was built together with llama-cpp-python, if it was."""
    try:
        files = importlib.metadata.files(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = next((Path(each.locate()) for each in files if each.name == SERVER), None)
    return found if found and found.is_file() else None


def find_llama_server() -> tuple[Path, bool]:
    """The llama-server of this machine, and whether it is the one that medllm built.

    Another one is that of the checkout of llama.cpp that `MEDLLM_LLAMA_CPP` names, or on the PATH.

    Raises:
        LlamaServerMissing: there is none.
    """
    if own := own_llama_server():
        return own, True
    checkout = Path(os.environ.get("MEDLLM_LLAMA_CPP", "")).expanduser() / "build" / "bin" / SERVER
    other = str(checkout) if checkout.is_file() else shutil.which(SERVER)
    if not other:
        raise LlamaServerMissing(f"there is no {SERVER} on this machine", SET_UP)
    return Path(other), False


def require_llama_cpp() -> ModuleType:
    """The module `llama_cpp`.

    Raises:
        SetupError: it is not installed, or was built for another machine.
    """
    try:
        return importlib.import_module("llama_cpp")
    except ModuleNotFoundError as problem:
        message = f"llama.cpp is not set up on this machine (no module {problem.name})"
        raise SetupError(message, SET_UP) from None
    except (ImportError, OSError, RuntimeError) as problem:
        fix = f"`{sys.executable} -m pip uninstall {PACKAGE}`, then {SET_UP}"
        message = f"{PACKAGE} is installed but cannot be loaded: {problem}"
        raise SetupError(message, fix) from problem


def converter_script() -> Path:
    """The path of llama.cpp's HF-to-GGUF converter.

    It is that of the checkout of llama.cpp that `MEDLLM_LLAMA_CPP` names, else the cached one.

    Raises:
        SetupError: there is none.
    """
    named = os.environ.get("MEDLLM_LLAMA_CPP")
    script = Path(named).expanduser() / CONVERTER if named else _cached_converter()
    if script.is_file():
        return script
    if named:
        fix = "let MEDLLM_LLAMA_CPP name a checkout of llama.cpp, or unset it"
        raise SetupError(f"MEDLLM_LLAMA_CPP={named} holds no {CONVERTER}", fix)
    raise SetupError("llama.cpp's converter is not set up on this machine", SET_UP)


def import_gguf(part: str) -> ModuleType:
    """A module ("gguf_writer", "tensor_mapping" …) of the gguf package that the converter uses.

    It differs from PyPI's `gguf`, which other programs may have installed: so it goes by another
    name here. Its `__init__`, which imports `gguf` by that name, is not run.
    """
    if OWN_GGUF not in sys.modules:
        package = ModuleType(OWN_GGUF)
        package.__path__ = [str(converter_script().parent / "gguf-py" / "gguf")]
        sys.modules[OWN_GGUF] = package
    return importlib.import_module(f"{OWN_GGUF}.{part}")


def cpu_key() -> str:
    """A short name for "built for this Python, this kind of CPU and these CMAKE_ARGS".

    llama.cpp is compiled with `-march=native`: on another CPU the same wheel may die of an
    illegal instruction.
    """
    python = f"{sys.implementation.cache_tag}-{platform.system()}-{platform.machine()}"
    server = WITH_SERVER.read_text(encoding="utf-8")
    return digest_text(f"{python}\n{_cpu_flags()}\n{_cmake_args()}\n{server}")[:12]


def _cpu_flags() -> str:
    """The instruction sets of the first CPU ("flags" on x86, "Features" on ARM)."""
    described = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    found = re.search(r"^(?:flags|Features)\s*:(.*)", described, re.MULTILINE)
    return " ".join(sorted(found[1].split())) if found else platform.processor()


def _cmake_args() -> str:
    without_amx = f" {WITHOUT_AMX}" if "amx_int8" in _cpu_flags() else ""
    return os.environ.get("CMAKE_ARGS") or DEFAULT_CMAKE_ARGS + without_amx


def _folder() -> Path:
    return cache_dir() / "llama.cpp" / VERSION


def _cached_converter() -> Path:
    return _folder() / "converter" / CONVERTER


def _sdist() -> Path:
    """The source of llama-cpp-python, fetched unless it is there.

    The owner of a closed machine may put it there.
    """
    sdist = _folder() / SDIST
    if not sdist.is_file():
        console.notice(f"fetching the source of {PACKAGE} {VERSION} (76 MB)")
        options = ("--no-deps", "--no-binary", PACKAGE, "--dest", str(_folder()))
        fix = f"see that pip can reach its index, or put {SDIST} into {_folder()}"
        list(_pip(("download", *options, f"{PACKAGE}=={VERSION}"), "download.log", fix))
    if digest_file(sdist) != SDIST_SHA256:
        fix = f"remove it, get {SDIST} from an index that you trust, and try again"
        raise SetupError(f"{sdist} is not the file that was published for {VERSION}", fix)
    return sdist


def _wheel() -> Path:
    """A wheel for this machine, built unless it is there."""
    kept = _folder() / cpu_key()
    if ready := next(kept.glob("llama_cpp_python-*.whl"), None):
        console.notice(f"using the wheel that was built before: {ready}")
        return ready
    if not os.environ.get("CXX") and not any(map(shutil.which, COMPILERS)):
        message = "llama.cpp must be compiled here, and there is no C++ compiler"
        raise SetupError(message, INSTALL_COMPILER)
    sdist = _sdist()
    kept.mkdir(parents=True, exist_ok=True)
    with passing_folder(kept) as building:
        _build(sdist, building, f"{kept.name}/build.log")
        built = next(building.glob("llama_cpp_python-*.whl"))
        return built.rename(kept / built.name)


def _build(sdist: Path, target: Path, log: str) -> None:
    """Compile a wheel into `target`.

    Without pip's cache: that would hand out a wheel built on another CPU or with other CMAKE_ARGS.
    """
    console.notice("compiling llama.cpp, once for this machine: about 10 minutes on 2 cores")
    options = ("--no-deps", "--no-cache-dir", "--verbose", "--wheel-dir", str(target))
    lines = _pip(("wheel", *options, str(sdist)), log, INSTALL_COMPILER)
    steps = filter(None, map(BUILD_STEP.match, lines))
    total = next((int(step[1]) for step in steps), 0)
    with console.progress("compiling llama.cpp", total) as advance:
        for _ in steps:
            advance(1)


def _extract_converter(sdist: Path) -> None:
    """Keep the converter's parts of the sdist; the folder appears only when it is complete."""
    target = _cached_converter().parent
    with passing_folder(_folder()) as scratch, tarfile.open(sdist) as archive:
        # Python before 3.11.4 has no filter; the digest vouches for the archive anyway.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(scratch, [each for each in archive if CONVERTER_PARTS.match(each.name)])
        shutil.rmtree(target, ignore_errors=True)
        next(scratch.glob("*/vendor/llama.cpp")).rename(target)


def _pip(arguments: Sequence[str], log: str, fix: str) -> Iterator[str]:
    """What pip prints, line by line; it is also kept in `log` below the cache folder.

    Raises:
        SetupError: pip failed; shows its last lines.
    """
    path = _folder() / log
    path.parent.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)
    server = f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={shlex.quote(str(WITH_SERVER))}"
    cmake_args = f"{_cmake_args()} {server}"
    environment = {**os.environ, "CMAKE_ARGS": cmake_args, "PIP_NO_INPUT": "1"}
    last: deque[str] = deque(maxlen=SHOWN_LOG_LINES)
    with (
        path.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            env=environment,
            encoding="utf-8",
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        for line in process.stdout or ():
            kept.write(line)
            last.append(line.rstrip())
            yield line
    if process.returncode:
        shown = "\n".join(line for line in last if line)
        raise SetupError(f"pip {arguments[0]} failed; its log is {path}\n{shown}", fix)
