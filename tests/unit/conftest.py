"""What all unit tests share."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def always_own_cache(own_cache: None) -> None:
    """No unit test needs what another one made."""


@pytest.fixture(scope="module", autouse=True)
def seldom_garbage() -> Iterator[None]:
    """To look for garbage after every 700 objects is a tenth of the time of unit tests."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, *usual[1:])
    yield
    gc.set_threshold(*usual)


@pytest.fixture
def lock() -> Callable[[Path], None]:
    """Takes from everybody the right to read a file; who may read all the same is skipped."""

    def take(path: Path) -> None:
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read what nobody may")

    return take


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A unit test loads no torch: it takes two seconds, and what needs it is an integration."""
    was_loaded = "torch" in sys.modules
    yield
    assert was_loaded or "torch" not in sys.modules
