"""Too little memory is told before a model is loaded."""

from pathlib import Path

import pytest
from typed import Typed

from medllm.errors import SetupError
from medllm.models import hardware
from medllm.models.offload import exact_place


@pytest.fixture
def a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control group whose limit leaves this process a megabyte."""
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path / "cgroup")
    own = Path("/proc/self/cgroup")
    if not own.is_file() or "0::/" not in own.read_text("utf-8"):
        pytest.skip("there are no control groups of version 2")
    (tmp_path / "cgroup").mkdir()
    for name, said in (("memory.max", 2**21), ("memory.current", 2**20)):
        (tmp_path / "cgroup" / name).write_text(str(said))
    (tmp_path / "cgroup" / "memory.stat").write_text("inactive_file 0\n")


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--tasks", "radiology", "--limit", "2", "--output", "out"),
        ("generate", "--prompt", "Is it?"),
        ("serve", "--port", "0"),
    ],
    ids=lambda command: command[0],
)
def test_a_model_that_does_not_fit_is_refused(
    command: tuple[str, ...], a_container: None, own_places: Path, typed: Typed
) -> None:
    verb, *options = command

    ended = typed(verb, "--model", "medllm/tiny", "--set", "dtype=float16", *options)

    assert ended.returncode == 5, ended.stderr
    *_, error, fix = ended.stderr.splitlines()
    assert error.startswith(f"error: {verb}: loading medllm/tiny in float16 takes about ")
    assert error.endswith(" GiB of memory are free here")
    assert fix.startswith("  fix: no smaller form of it fits")


def test_a_merge_is_not_compared_where_no_format_fits(a_container: None, tiny_model: Path) -> None:
    with pytest.raises(SetupError, match="bfloat16 takes .* GiB of memory, .* are free"):
        exact_place(tiny_model, "float32")

    assert exact_place(tiny_model, "bfloat16") == ("cpu", "bfloat16")  # mapped into memory
