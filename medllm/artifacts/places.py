"""Where things of the user lie on this machine."""

import os
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


def _place(ours: str, xdg: str, default: str) -> Path:
    if named := os.environ.get(ours):
        return Path(named).expanduser().resolve()
    base = os.environ.get(xdg)
    return (Path(base) if base else Path.home() / default) / "medllm"
