"""Where things of the user lie on this machine."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


def cache_dir() -> Path:
    """What can be made again, as digests and llama.cpp's converter (`MEDLLM_CACHE_DIR`)."""
    return _place("MEDLLM_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def data_dir() -> Path:
    """Raw files of datasets, one folder each (`MEDLLM_DATA_DIR`)."""
    return _place("MEDLLM_DATA_DIR", "XDG_DATA_HOME", ".local/share")


def short_path(path: Path) -> str:
    """The path as the user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def pin_library_folders() -> None:
    """Name the folders that libraries keep models and code in, for this process and its children.

    Where nobody names them, tokenicer (which gptqmodel and so peft import) takes a folder of a
    fixed name in the shared temporary folder for the hub's models and Python modules, and
    PyTorch's compiler does so for its code: there anybody on the machine could put their own.
    """
    hub = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = Path(os.environ.setdefault("HF_HOME", str(_usable(hub))))
    os.environ.setdefault("HF_MODULES_CACHE", str(_usable(home / "modules")))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_usable(cache_dir() / "torchinductor")))


def _usable(folder: Path) -> Path:
    """The folder, or one of this process's own where it cannot be."""
    try:
        folder = folder.expanduser()
        if folder.is_dir():
            return folder
        nearest = next(place for place in folder.parents if place.exists())
    except (OSError, RuntimeError):  # no home
        return _own_folder()
    return folder if nearest.is_dir() and os.access(nearest, os.W_OK) else _own_folder()


@cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="medllm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _place(ours: str, xdg: str, default: str) -> Path:
    if named := os.environ.get(ours):
        return Path(named).expanduser().resolve()
    base = os.environ.get(xdg)
    return (Path(base) if base else Path.home() / default) / "medllm"
