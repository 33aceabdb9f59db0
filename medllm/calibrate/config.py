"""The `calibrate:` section."""

from pydantic import Field

from medllm.config.base import DataConfig, Place, Ref
from medllm.data.mix import Mix
from medllm.data.split import SplitConfig


class CalibrateConfig(DataConfig):
    """How to build a calibration set."""

    mix: str | Mix = "pubmedqa"
    """Name of a mix, or a mix written here."""
    mix_dir: Place | None = None
    """Folder with your own mixes (`<name>.yaml`)."""
    samples: int = Field(default=512, gt=0)
    """Texts in the set."""
    holdout_samples: int = Field(default=64, ge=0)
    """Texts kept apart, from the validation split, to judge a quantized model by."""
    tokenizer: Ref | None = None
    """Whose tokens are counted, and whose chat template is used; default: the recipe's model."""
    min_tokens: int = Field(default=256, ge=1)
    """Shorter texts are left out."""
    max_tokens: int = Field(default=4096, ge=1)
    """Longer texts are left out."""
    split: SplitConfig = SplitConfig()
    """What is held out; a shared key."""
