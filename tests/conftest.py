"""Fixtures that all tests share."""

import gc
import os
import re
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# as the command line sets it: threads wait asleep for each other; must be set before torch loads
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several, which would wait for each other's threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell's job in the background ignores Ctrl-C, and so would all that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Little becomes garbage while tests are collected, and to look for it takes a tenth."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def libraries() -> None:
    """No collection of garbage looks through the libraries again, of which nothing becomes any."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models beside the project; without it its tests are skipped."""
    folder = Path(os.environ.get("MEDLLM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name them with MEDLLM_SHARED")
    return folder.resolve()


NUMBERS = count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder; pytest's own fixture lists those of all tests before it, each time."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / f"{name}-{next(NUMBERS)}"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests are remembered in a folder of the test's own, not in the user's."""
    monkeypatch.setenv("MEDLLM_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own data and digests, works in an empty folder, and never asks the hub."""
    monkeypatch.setenv("MEDLLM_DATA_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("MEDLLM_CONFIG_DIR", str(tmp_path / "settings"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work
