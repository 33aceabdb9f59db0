"""Datasets on the Hugging Face hub, streamed at a pinned revision."""

import os
from collections.abc import Iterator
from typing import Any

from medllm.config.base import Strict
from medllm.errors import DataError


def is_offline() -> bool:
    """Whether the hub must not be asked (`HF_HUB_OFFLINE`, which `--offline` sets)."""
    return os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}


class HubSource(Strict):
    """A dataset on the hub."""

    id: str
    """Repository, as `owner/name`."""
    config: str | None = None
    """Configuration (subset)."""
    split: str = "train"
    """Split to read."""
    revision: str | None = None
    """Commit, so that the same recipe reads the same rows."""

    @property
    def label(self) -> str:
        """How people and identities name it."""
        return f"{self.id}/{self.config or 'default'}/{self.split}@{self.revision or 'main'}"


def read_hub(source: HubSource) -> Iterator[dict[str, Any]]:
    """The rows of a dataset on the hub.

    Raises:
        DataError: the hub cannot be reached, or has no such dataset.
    """
    import datasets
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield from datasets.load_dataset(
            source.id, source.config, split=source.split, revision=source.revision, streaming=True
        )
    except (OSError, HfHubHTTPError, HTTPError, datasets.exceptions.DatasetsError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        fix = (
            "put the raw files into the data folder (`medllm datasets show NAME`), "
            "or check the network and your token"
        )
        raise DataError(f"{source.id}: cannot be read from the hub: {first:.160}", fix) from problem
