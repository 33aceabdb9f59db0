"""What all unit tests share."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests are remembered in a folder of the test's own, not in the user's."""
    monkeypatch.setenv("MEDLLM_CACHE_DIR", str(tmp_path / "cache"))
