"""The `calibrate:` section."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medllm.config.base import DataConfig, Place, Ref
from medllm.data.fit import OverLength
from medllm.data.mix import Mix
from medllm.data.split import SplitConfig


class CalibrateConfig(DataConfig):
    """How to build a calibration set."""

    mix: str | Mix = "pubmedqa"
    """Name of a mix, or a mix written here."""
    mix_dir: Place | None = None
    """Folder with your own mixes (`<name>.yaml`)."""
    samples: int = Field(default=512, gt=0)
    """Medical texts in the set."""
    general_share: float = Field(default=0.0, ge=0, le=1)
    """General texts on top, as a share of `samples`: 0.25 is one on top of every four."""
    general: str | Mix = "general"
    """The mix of general text; `holdout_general` is drawn from it where it is on this machine."""
    holdout_samples: int = Field(default=64, ge=0)
    """Texts of each kind kept apart, from the validation split, to judge a quantized model by."""
    tokenizer: Ref | None = None
    """Whose tokens are counted, and whose chat template is used; default: the recipe's model."""
    min_tokens: int = Field(default=256, ge=1)
    """Shorter texts are left out."""
    max_tokens: int = Field(default=4096, ge=1)
    """Longer texts are dealt with as `over_length` says."""
    over_length: OverLength = "drop"
    """Longer texts are dropped, truncated to `max_tokens`, or split into pieces of that size."""
    window_tokens: int = Field(default=2048, ge=1)
    """Room of a window that short rows are packed into, where the mix says so."""
    on_shortage: Literal["error", "rebalance"] = "error"
    """What to do when a dataset has too few texts: stop, or let the others make up for it."""
    boost_terms: Annotated[str, Field(min_length=1)] | None = None
    """Texts with these terms come first: radiology, pathology, cardiology, or a file of terms."""
    split: SplitConfig = SplitConfig()
    """What is held out; a shared key."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError("`min_tokens` is more than `max_tokens`")
        return self
