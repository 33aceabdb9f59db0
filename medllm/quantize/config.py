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


class QuantizeGate(Strict):
    """What a quantized model may lose; a command that any format of fails ends with exit code 6."""

    max_kl: float | None = Field(default=None, gt=0)
    """Mean KL divergence from the model over all held-out text, in nats a token."""
    max_perplexity_increase: float | None = Field(default=None, gt=0)
    """Increase of the perplexity on held-out medical text over the model's: 0.05 is 5 %."""

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.max_kl is None and self.max_perplexity_increase is None:
            raise ValueError("a gate needs a threshold: max_kl, max_perplexity_increase")
        return self


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
    holdouts: Place | None = None
    """A folder of `medllm calibrate` whose holdouts to compare on; default: `calibration`."""
    gate: QuantizeGate | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """Thresholds that fail the command once all formats are made."""

    @property
    def lacks_calibration(self) -> bool:
        """Whether a format would use calibration text, and no calibration set is named."""
        return self.calibration is None and any(each.uses_calibration for each in self.formats)

    @model_validator(mode="after")
    def _check_gate(self) -> Self:
        if self.gate and not self.quality:
            raise ValueError("the gate needs the quality report: leave out `quality: false`")
        return self

    @field_validator("formats")
    @classmethod
    def _check_folders(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        folders = [choice.folder for choice in formats]
        twice = next((name for name in folders if folders.count(name) > 1), None)
        if twice:
            raise ValueError(f"two formats would be written to {twice}; quantize one at a time")
        return formats
