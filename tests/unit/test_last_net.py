"""What the machine refuses ends a command as one error with a remedy, and nothing else does."""

import errno
import io
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medllm.cli.last_net import explain, explain_import
from medllm.cli.main import RESUMED, TERMINATED, Terminated, app, commands, run_command
from medllm.models.memory import within_memory


def os_error(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("problem", "code", "message", "fix"),
    [
        (os_error(errno.ENOSPC), 5, "no space left on device", "free some space"),
        (os_error(errno.EMFILE, "a"), 5, "a: too many open files", "ulimit -n 4096"),
        (os_error(errno.EACCES, "b.json"), 5, "b.json: permission denied", "who may read"),
        (os_error(errno.EROFS, "c"), 5, "c: read-only file system", "can be written"),
        (os_error(errno.ENOTDIR, "d"), 5, "d: not a directory", "check the path"),
        (os_error(errno.EBADF), 5, "bad file descriptor", "--debug"),
        (OSError("the library says\nmuch"), 5, "the library says", "--debug"),
        (MemoryError(), 5, "out of memory", "free memory"),
        (RecursionError("maximum"), 3, "an input is nested too deeply", "--debug"),
    ],
)
def test_each_refusal_has_its_remedy(problem: Any, code: int, message: str, fix: str) -> None:
    found = explain(problem)

    assert (found.exit_code, found.message) == (code, message)
    assert fix in found.fix


def test_a_working_folder_that_is_gone_is_said() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    try:
        assert explain(FileNotFoundError(2, "x")).message == "the working folder is gone"
    finally:
        os.chdir("/")


def test_a_library_that_cannot_be_loaded_for_want_of_files_or_memory_is_no_bug() -> None:
    few = ImportError("libx.so: cannot open shared object file: Too many open files")

    assert "too many open files" in str(explain_import(few))
    assert "cannot allocate" in str(explain_import(ImportError("x: failed to map segment from x")))
    assert explain_import(ImportError("No module named 'x'")) is None


@contextmanager
def command_fail(fail: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `medllm fail` does this."""
    app.command("fail")(fail)
    commands.cache_clear()
    try:
        yield
    finally:
        app.registered_commands.pop()
        commands.cache_clear()


def test_a_bug_keeps_its_traceback() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with command_fail(fail), pytest.raises(ZeroDivisionError):
        run_command(["fail"])


@pytest.mark.parametrize("known", [True, False])
def test_memory_is_given_back_before_its_end_is_told(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what tells of it fails for want of memory, and a traceback stands there."""

    class Holder:
        """What a frame holds."""

    held: list[weakref.ref[Holder]] = []

    class Screen(io.StringIO):
        """Standard error, for which nothing may be left of it."""

        def write(self, text: str) -> int:
            assert held[0]() is None
            return super().write(text)

    def allocate() -> None:
        large = Holder()
        held.append(weakref.ref(large))
        raise MemoryError

    def fail() -> None:
        if not known:
            allocate()
        with within_memory("generate", "a smaller model"):
            allocate()

    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    with command_fail(fail):
        assert run_command(["fail"]) == 5

    told = "generate: this machine has too little memory" if known else "out of memory"
    assert screen.getvalue().startswith(f"error: {told}\n  fix: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["recipes", "show", "b.bin"], 2, "not UTF-8 text"),
        (["recipes", "copy", "b.bin", "c.yaml"], 2, "not UTF-8 text"),
        (["recipes", "copy", "quickstart", "x" * 300], 5, "file name too long"),
        (["run", "--config", "x" * 5000], 2, "no such recipe"),
        (["run", "--config", "~nobodyhere/x.yaml"], 2, "no such recipe"),
        (["verify", "x" * 300], 4, "no such folder"),
        (["datasets", "add", "x" * 300, "b.bin"], 2, "cannot be the name of a dataset"),
        (["datasets", "add", "good", "x" * 300], 3, "no such data file"),
        (["prepare", "--dataset", "./caf\udce9.jsonl"], 3, "not UTF-8"),
        (["verify", ""], 2, "verify: followed by an empty argument"),
        (["quantize", "--model", " ", "--format", "gguf"], 2, "--model: followed by an empty"),
        (["calibrate", "--output=", "--dry-run"], 2, "--output: followed by an empty argument"),
    ],
)
def test_odd_names_are_refused_in_two_lines(
    arguments: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("b.bin").write_bytes(b"\xdd\xff")

    assert run_command(arguments) == code
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert said in lines[0]


def test_what_goes_nowhere_again_does_not_say_that_it_resumes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise Terminated(TERMINATED)

    with command_fail(fail):
        assert run_command(["fail"]) == TERMINATED
    assert capfd.readouterr().err == "ended by SIGTERM\n"
    assert {"prepare", "finetune", "run"} <= RESUMED and "serve" not in RESUMED
