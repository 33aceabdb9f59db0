"""Where libraries keep what they load: never in a folder that anybody could have put there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medllm.errors import ConfigError
from medllm.places import cache_dir, passing_folder

CODE = (
    "import medllm, os\n"
    "for name in ('HF_HOME', 'HF_MODULES_CACHE', 'TORCHINDUCTOR_CACHE_DIR'):\n"
    "    print(os.environ[name])\n"
)


def folders(**environment: str) -> list[str]:
    """What a new process names, in this environment alone."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    kept.setdefault("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    found = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.splitlines()


def test_they_are_the_users_own_as_the_libraries_would_have_it(tmp_path: Path) -> None:
    assert folders(HOME=str(tmp_path)) == [
        f"{tmp_path}/.cache/huggingface", f"{tmp_path}/.cache/huggingface/modules",
        f"{tmp_path}/.cache/medllm/torchinductor",
    ]  # fmt: skip
    assert folders(HOME="/", XDG_CACHE_HOME=str(tmp_path))[0] == f"{tmp_path}/huggingface"


def test_what_the_user_names_stays(tmp_path: Path) -> None:
    named = {"HF_HOME": str(tmp_path / "hub"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "code")}

    assert folders(HOME=str(tmp_path), **named) == [
        named["HF_HOME"], f"{named['HF_HOME']}/modules", named["TORCHINDUCTOR_CACHE_DIR"],
    ]  # fmt: skip


def test_a_place_that_cannot_be_is_said_by_whoever_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDLLM_CACHE_DIR", "~nobodyhere/cache")

    with pytest.raises(ConfigError, match="the folder that MEDLLM_CACHE_DIR stands for"):
        cache_dir()
    assert folders(HOME="/", MEDLLM_CACHE_DIR="~nobodyhere/cache")[2].rpartition("/")[2]


def test_without_a_home_they_are_the_process_s_own_and_go_with_it(tmp_path: Path) -> None:
    for folder in map(Path, folders(HOME="/etc/passwd", TMPDIR=str(tmp_path))):
        assert folder.relative_to(tmp_path).parts[0].startswith("medllm-")
        assert not folder.exists()
    assert list(tmp_path.glob("medllm-*")) == []


def test_a_signal_while_a_folder_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, place = Path.mkdir, tmp_path / "place"
    place.mkdir()

    def interrupted(folder: Path, mode: int) -> None:
        made(folder, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), passing_folder(place):
        pass

    assert not any(place.iterdir())


def test_a_passing_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    with passing_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o077 == 0

    assert not folder.exists()
