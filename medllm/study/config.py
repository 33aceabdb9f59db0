"""The `study:` section."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from medllm.calibrate.config import CalibrateConfig
from medllm.config.base import Strict, VerbConfig


class Arm(CalibrateConfig):
    """How the calibration set of an arm differs from the recipe's `calibrate:` section."""

    random_tokens: bool = False
    """Uniformly drawn tokens instead of text: what any calibration gains that says nothing."""


class StudyConfig(Strict):
    """Which calibration sets to compare."""

    arms: dict[str, Arm] = Field(min_length=2)
    """For each arm what it sets differently in `calibrate:`."""
    reference: str | None = None
    """The arm that the others are compared with; default: the first."""
    draws: int = Field(default=3, ge=1)
    """Sets drawn for each arm, each with a seed of its own."""
    windows: int | None = Field(default=128, ge=1)
    """Windows of equally many tokens that each set is cut into; without, it stays as it is."""
    window_tokens: int = Field(default=512, ge=16)
    """Tokens of a window."""

    @field_validator("arms")
    @classmethod
    def _check_names(cls, arms: dict[str, Arm]) -> dict[str, Arm]:
        if bad := [name for name in arms if not name.replace("_", "").isalnum()]:
            raise ValueError(f"'{bad[0]}' names a folder: letters, digits and _ alone")
        return arms

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if self.windows is None and any(arm.random_tokens for arm in self.arms.values()):
            raise ValueError("an arm of random tokens needs `windows`")
        return self

    @property
    def base_arm(self) -> str:
        """The arm that the others are compared with."""
        return self.reference or next(iter(self.arms))


class SetConfig(VerbConfig):
    """A calibration set of a fixed number of tokens."""

    windows: int = Field(ge=1)
    """Windows in it."""
    window_tokens: int = Field(ge=16)
    """Tokens of each."""
    random_tokens: bool
    """Whether the tokens are drawn uniformly from the vocabulary."""
