"""A tiny model, built once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The built-in tiny model."""
    from medllm.models.tiny import tiny_base

    return tiny_base()
