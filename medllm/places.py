"""Where things of the user lie on this machine."""

import atexit
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from medllm.errors import ConfigError, MedllmError


def cache_dir() -> Path:
    """What can be made again, as digests and llama.cpp's converter (`MEDLLM_CACHE_DIR`)."""
    return _place("MEDLLM_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def data_dir() -> Path:
    """Raw files of datasets, one folder each (`MEDLLM_DATA_DIR`)."""
    return _place("MEDLLM_DATA_DIR", "XDG_DATA_HOME", ".local/share")


def config_dir() -> Path:
    """What must stay, as the key of digests (`MEDLLM_CONFIG_DIR`)."""
    return _place("MEDLLM_CONFIG_DIR", "XDG_CONFIG_HOME", ".config")


def shipped_dir() -> Path:
    """The YAML files that come with medllm: in the package, in a checkout beside it."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "configs"


def is_address(ref: str) -> bool:
    """Whether a REF is the address of a server, as http://127.0.0.1:8000."""
    return re.match(r"https?://", ref, re.IGNORECASE) is not None


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def short_path(path: Path) -> str:
    """The path as the user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def short_ref(ref: str | Path | None) -> str | None:
    """A model, a folder or a file by its last two names, as on the hub: no path of this machine."""
    return None if ref is None else "/".join(Path(ref).parts[-2:]).strip("/")


@contextmanager
def passing_folder(where: Path) -> Iterator[Path]:
    """A new folder in `where` that goes again, even where a signal comes while it is made.

    `tempfile.TemporaryDirectory` knows of its folder only once it is there.
    """
    folder = where / f"medllm-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pin_library_folders() -> None:
    """Name the folders that libraries keep models and code in, for this process and its children.

    Where nobody names them, tokenicer (which gptqmodel and so peft import) takes a folder of a
    fixed name in the shared temporary folder for the hub's models and Python modules, and
    PyTorch's compiler does so for its code: there anybody on the machine could put their own.
    """
    _pin("HF_HOME", lambda: _place("HF_HOME", "XDG_CACHE_HOME", ".cache", "huggingface"))
    _pin("HF_MODULES_CACHE", lambda: Path(os.environ["HF_HOME"]) / "modules")
    _pin("TORCHINDUCTOR_CACHE_DIR", lambda: cache_dir() / "torchinductor")


def _pin(variable: str, find: Callable[[], Path]) -> None:
    """Name a folder, unless somebody did; one of this process's own where it cannot be made."""
    if os.environ.get(variable):
        return
    try:
        folder = find()
        nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not nearest.is_dir() or (nearest != folder and not os.access(nearest, os.W_OK)):
            folder = _own_folder()
    except (OSError, MedllmError):  # whoever needs the place says so
        folder = _own_folder()
    os.environ[variable] = str(folder)


@cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="medllm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _place(ours: str, xdg: str, default: str, name: str = "medllm") -> Path:
    """What a variable names, else a folder where the user keeps such things.

    Raises:
        ConfigError: the variable names no possible place, or there is no home folder.
    """
    try:
        if named := os.environ.get(ours):
            return Path(named).expanduser().resolve()
        base = os.environ.get(xdg)
        return (Path(base) if base else Path.home() / default) / name
    except (OSError, RuntimeError) as problem:
        message = f"the folder that {ours} stands for cannot be found: {problem}"
        raise ConfigError(message, f"export {ours}=…, a folder of yours") from None
