"""The `quantize:` section."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from medllm.config.base import NOT_IDENTITY, Place, Ref, Strict, VerbConfig
from medllm.errors import did_you_mean
from medllm.quantize.gguf_types import NEEDS_IMPORTANCE, QUANTIZATION_TYPES, WITHOUT_IMPORTANCE


class GptqFormat(Strict):
    """GPTQ through gptqmodel; option names are its own."""

    format: Literal["gptq"] = "gptq"
    """GPTQ."""
    bits: Literal[2, 3, 4, 8] = 4
    """Bits of a weight."""
    group_size: int = 128
    """Weights that share a scale; -1 for a whole row."""
    desc_act: bool = False
    """Quantize columns by descending activation; slower inference."""
    sym: bool = True
    """Symmetric quantization."""
    damp_percent: float = Field(default=0.05, gt=0, lt=1)
    """Damping of the Hessian."""
    batch_size: int = Field(default=1, ge=1)
    """Calibration texts of one forward pass."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        return f"gptq-{self.bits}bit"

    @property
    def uses_calibration(self) -> bool:
        """Whether calibration text changes the result."""
        return True

    @property
    def needs_calibration(self) -> bool:
        """Whether it cannot be made without."""
        return True


class GgufFormat(Strict):
    """GGUF through llama.cpp's own converter and quantizer."""

    format: Literal["gguf"] = "gguf"
    """GGUF."""
    type: str = "Q4_K_M"
    """llama.cpp's quantization type, such as F16, Q8_0, Q4_K_M."""
    imatrix: bool = True
    """Whether an importance matrix is computed from the calibration set, where the type gains."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        plain = "" if self.imatrix else "-no-imatrix"
        return f"gguf-{self.type.lower()}{plain}"

    @property
    def uses_calibration(self) -> bool:
        """Whether calibration text changes the result."""
        return self.imatrix and self.type not in WITHOUT_IMPORTANCE

    @property
    def needs_calibration(self) -> bool:
        """Whether it cannot be made without."""
        return self.type in NEEDS_IMPORTANCE

    @field_validator("type")
    @classmethod
    def _check_type(cls, name: str) -> str:
        if name not in QUANTIZATION_TYPES:
            hint = did_you_mean(name.upper(), QUANTIZATION_TYPES)
            known = ", ".join(QUANTIZATION_TYPES)
            raise ValueError(f"unknown GGUF type '{name}'; {hint}known types: {known}")
        return name

    @model_validator(mode="after")
    def _check_imatrix(self) -> Self:
        if self.type in NEEDS_IMPORTANCE and not self.imatrix:
            raise ValueError(f"GGUF {self.type} cannot be made without an importance matrix")
        return self


Format = Annotated[GptqFormat | GgufFormat, Field(discriminator="format")]


class QuantizeConfig(VerbConfig):
    """How to quantize."""

    model: Ref | None = None
    """The model to quantize."""
    calibration: Place | None = None
    """A folder that `medllm calibrate` wrote."""
    formats: tuple[Format, ...] = (GptqFormat(),)
    """The formats, one folder each."""
    quality: bool = True
    """Whether each result is compared with the model on the calibration set's holdouts."""
    quality_texts: int = Field(default=32, ge=1)
    """The most texts of each holdout to compare on."""
    max_memory_gib: float | None = Field(default=None, ge=0, json_schema_extra=NOT_IDENTITY)
    """The most that weights of the model may take while it computes; layers that are more are read
    from the disk. Default: a share of what is free."""

    @property
    def lacks_calibration(self) -> bool:
        """Whether a format would use calibration text, and no calibration set is named."""
        return self.calibration is None and any(each.uses_calibration for each in self.formats)

    @field_validator("formats")
    @classmethod
    def _check_folders(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        folders = [choice.folder for choice in formats]
        twice = next((name for name in folders if folders.count(name) > 1), None)
        if twice:
            raise ValueError(f"two formats would be written to {twice}; quantize one at a time")
        return formats
