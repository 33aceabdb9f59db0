"""The `prepare:` section."""

from pydantic import Field

from medllm.config.base import DataConfig, DatasetRef
from medllm.data.split import SplitConfig


class PrepareConfig(DataConfig):
    """How to prepare a dataset."""

    datasets: tuple[DatasetRef, ...] = ()
    """Names of the registry, or paths of your own files or folders."""
    max_examples: int | None = Field(default=None, gt=0)
    """At most so many examples of each dataset and split, drawn by seed."""
    system: str | None = None
    """System message put before each prompt."""
    split: SplitConfig = SplitConfig()
    """What is held out; a shared key."""
