"""Datasets on the Hugging Face hub, at a pinned revision: streamed, or fetched as files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medllm.config.base import Strict
from medllm.data.readers.rows import KEY, SPLIT, as_written
from medllm.data.split import Split
from medllm.errors import DataError

ONLINE = frozenset({"", "0", "false", "no", "off", "n", "f"})
COMMIT = re.compile("[0-9a-f]{40}")


def is_offline() -> bool:
    """Whether the hub must not be asked (`HF_HUB_OFFLINE`, which `--offline` sets).

    What is neither yes nor no closes the house, too.
    """
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() not in ONLINE


class HubSource(Strict):
    """A dataset on the hub."""

    id: str
    """Repository, as `owner/name`."""
    configs: tuple[str, ...] = ()
    """Configurations (subsets) to read; the default one where none is named."""
    splits: dict[str, Split | None] = {"train": None}
    """Splits to read, and which official split each is, if it is one."""
    files: tuple[str, ...] = ("*",)
    """Patterns of the files to fetch, as the hub takes them."""
    revision: str | None = None
    """Commit, so that the same recipe reads the same rows; else the newest one is read."""

    @property
    def label(self) -> str:
        """How people and identities name it."""
        configs = "+".join(self.configs) or "default"
        return f"{self.id}/{configs}/{'+'.join(self.splits)}@{self.revision or 'main'}"


def pin_commit(source: HubSource) -> HubSource:
    """The source at the commit that its branch or tag, `main` by default, stands for now.

    Raises:
        DataError: the hub cannot be reached, or has no such dataset.
    """
    if source.revision and COMMIT.fullmatch(source.revision):
        return source
    from httpx import HTTPError
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(source.id, revision=source.revision).sha
    except (OSError, HTTPError) as problem:
        raise _hub_error(source, problem) from problem
    return source.model_copy(update={"revision": commit})


def read_hub(source: HubSource) -> Iterator[dict[str, Any]]:
    """The rows of a dataset on the hub.

    Raises:
        DataError: the hub cannot be reached, or has no such dataset.
    """
    import datasets
    from httpx import HTTPError

    for config in source.configs or (None,):
        for name, split in source.splits.items():
            marks = {SPLIT: split} if split else {}
            prefix = "-".join(filter(None, (config, name)))
            try:
                rows = datasets.load_dataset(
                    source.id, config, split=name, revision=source.revision, streaming=True
                )
                columns = rows.features.arrow_schema if rows.features else ()
                for number, row in enumerate(as_written(rows, columns), 1):
                    yield {**marks, **({KEY: f"{prefix}-{number}"} if split else {}), **row}
            except (OSError, HTTPError, datasets.exceptions.DatasetsError) as why:
                raise _hub_error(source, why) from why


def fetch_files(source: HubSource, folder: Path) -> None:
    """Download a dataset's files; a stopped download is resumed.

    Raises:
        DataError: offline, unreachable, gated, or no such dataset.
    """
    if is_offline():
        raise DataError(
            f"{source.id}: not fetched, for the hub is not asked (offline)",
            "leave --offline out, or copy the files from a machine with a network",
        )
    from httpx import HTTPError
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            source.id,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=list(source.files),
            local_dir=folder,
        )
    except (OSError, HTTPError) as problem:
        raise _hub_error(source, problem) from problem


def _hub_error(source: HubSource, problem: Exception) -> DataError:
    if "gated" in f"{type(problem).__name__} {problem}".lower():
        page = f"https://huggingface.co/datasets/{source.id}"
        return DataError(
            f"{source.id}: gated: its licence must be accepted first",
            f"accept it at {page}, then `hf auth login` or set HF_TOKEN",
        )
    first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return DataError(
        f"{source.id}: cannot be read from the hub: {first:.160}",
        "put the raw files into the data folder (`medllm datasets show NAME`), "
        "or check the network and your token",
    )
