"""The `quantize:` section."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from medllm.config.base import NOT_IDENTITY, Place, Ref, Strict, VerbConfig
from medllm.errors import did_you_mean
from medllm.models.hardware import Dtype
from medllm.quantize.gguf.types import NEEDS_IMPORTANCE, QUANTIZATION_TYPES, WITHOUT_IMPORTANCE

GroupSize = Literal[-1, 16, 32, 64, 128, 256, 512, 1024]
"""What gptqmodel's kernels take; -1 for a whole row."""
OVERRIDES = frozenset({"bits", "group_size", "desc_act", "sym"})
"""What GPTQ may do otherwise in some modules, and both gptqmodel and vLLM read."""


class AnyFormat(Strict):
    """What formats have alike: unless they say otherwise, none can be made without calibration."""

    @property
    def uses_calibration(self) -> bool:
        """Whether calibration text changes the result."""
        return True

    @property
    def needs_calibration(self) -> bool:
        """Whether it cannot be made without."""
        return self.uses_calibration


class GptqFormat(AnyFormat):
    """GPTQ through gptqmodel; option names are its own."""

    format: Literal["gptq"] = "gptq"
    """GPTQ."""
    bits: Literal[2, 3, 4, 8] = 4
    """Bits of a weight."""
    group_size: GroupSize = 128
    """Weights that share a scale; -1 for a whole row."""
    desc_act: bool = False
    """Quantize columns by descending activation; slower inference."""
    act_group_aware: bool | None = None
    """Order groups by activation, at no cost in inference; by default unless `desc_act`."""
    sym: bool = True
    """Symmetric quantization."""
    damp_percent: float = Field(default=0.05, gt=0, lt=1)
    """Damping of the Hessian."""
    dynamic: dict[str, dict[str, int | bool]] = {}
    """Other settings for modules whose name matches: `+:REGEX: {bits: 8}`, `-:REGEX: {}` leaves
    them as they are."""
    batch_size: int = Field(default=1, ge=1)
    """Calibration texts of one forward pass."""
    keep_seconds: float | None = Field(default=None, ge=0, json_schema_extra=NOT_IDENTITY)
    """After how long the finished layers are kept, so that a killed run can resume from them; by
    default 300 on a processor, and never on a GPU, which quantizes sooner than it keeps."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        marks = {"-desc_act": self.desc_act, "-asym": not self.sym, "-dynamic": bool(self.dynamic)}
        marked = "".join(mark for mark, on in marks.items() if on)
        return f"gptq-{self.bits}bit{_group_mark(self.group_size)}{marked}"

    @field_validator("dynamic")
    @classmethod
    def _check_dynamic(
        cls, dynamic: dict[str, dict[str, int | bool]]
    ) -> dict[str, dict[str, int | bool]]:
        for pattern, settings in dynamic.items():
            try:
                re.compile(pattern.removeprefix("+:").removeprefix("-:"))
            except re.error as problem:
                raise ValueError(f"'{pattern}' is no regular expression: {problem}") from None
            for unknown in settings.keys() - OVERRIDES:
                known = ", ".join(sorted(OVERRIDES))
                raise ValueError(f"'{pattern}' sets '{unknown}'; what can be set: {known}")
            if bool(settings) == pattern.startswith("-:"):
                what = "leaves modules as they are: give it {}" if settings else "sets nothing"
                raise ValueError(f"'{pattern}' {what}")
            try:
                cls.model_validate(settings)
            except ValidationError as problem:
                wrong = problem.errors()[0]
                raise ValueError(f"'{pattern}' {wrong['loc'][0]}: {wrong['msg']}") from None
        return dynamic

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.desc_act and self.act_group_aware:
            raise ValueError("desc_act and act_group_aware exclude each other; leave one out")
        return self


class AwqFormat(AnyFormat):
    """AWQ through gptqmodel; option names are its own."""

    format: Literal["awq"] = "awq"
    """AWQ."""
    bits: Literal[4] = 4
    """Bits of a weight."""
    group_size: Literal[-1, 16, 32, 64, 128] = 128
    """Weights that share a scale; -1 for a whole row."""
    sym: bool = False
    """Symmetric quantization; without it each group has a zero point, which vLLM's kernels want."""
    batch_size: int = Field(default=1, ge=1)
    """Calibration texts of one forward pass."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        return f"awq-4bit{_group_mark(self.group_size)}{'-sym' if self.sym else ''}"


def _group_mark(group_size: int) -> str:
    if group_size == 128:
        return ""
    return "-per_row" if group_size == -1 else f"-g{group_size}"


class BnbFormat(AnyFormat):
    """bitsandbytes through transformers, computing in bfloat16; it needs no calibration."""

    format: Literal["bnb"] = "bnb"
    """bitsandbytes."""
    type: Literal["nf4", "int8"] = "nf4"
    """4-bit NormalFloat, or LLM.int8()."""
    bnb_4bit_use_double_quant: bool = True
    """Whether the scales of nf4 are quantized too."""

    @model_validator(mode="after")
    def _check_double(self) -> Self:
        if self.type != "nf4" and not self.bnb_4bit_use_double_quant:
            raise ValueError(f"bnb_4bit_use_double_quant is of nf4, not of {self.type}")
        return self

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        single = self.type == "nf4" and not self.bnb_4bit_use_double_quant
        return f"bnb-{self.type}{'-single_quant' if single else ''}"

    @property
    def uses_calibration(self) -> bool:
        """Never: it only rounds to the nearest."""
        return False


class Fp8Format(AnyFormat):
    """8-bit floats (E4M3), weights and activations, through llm-compressor."""

    format: Literal["fp8"] = "fp8"
    """FP8."""
    scheme: Literal["dynamic", "static"] = "dynamic"
    """Scales of the activations: for each token while it runs, or fixed ones from calibration."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        return f"fp8-{self.scheme}"

    @property
    def uses_calibration(self) -> bool:
        """Whether calibration text changes the result."""
        return self.scheme == "static"


class W8a8Format(AnyFormat):
    """8-bit integers, weights and activations, by SmoothQuant and GPTQ through llm-compressor."""

    format: Literal["w8a8"] = "w8a8"
    """INT8."""
    smoothing_strength: float | None = Field(default=0.8, ge=0, le=1)
    """How far SmoothQuant moves what is hard to quantize from activations to weights; null for
    GPTQ alone."""

    @property
    def folder(self) -> str:
        """Name of the result's folder."""
        return "w8a8" if self.smoothing_strength is not None else "w8a8-plain"


class GgufFormat(AnyFormat):
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


Format = Annotated[
    GptqFormat | AwqFormat | GgufFormat | BnbFormat | Fp8Format | W8a8Format,
    Field(discriminator="format"),
]


class QuantizeGate(Strict):
    """What a quantized model may lose; a command that any format of fails ends with exit code 6."""

    max_kl: float | None = Field(default=None, gt=0)
    """Mean KL divergence from the model over all held-out text, in nats per token."""
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
    dtype: Dtype = "auto"
    """Number format that the model computes in for the importance matrix and the quality report;
    `auto` as in `evaluate`."""
    gate: QuantizeGate | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """Thresholds that fail the command once all formats are made."""
    max_memory_gib: float | None = Field(default=None, ge=0, json_schema_extra=NOT_IDENTITY)
    """The most that weights of the model may take while it computes; layers that are more are read
    from the disk. Default: a share of what is free."""

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
            fix = "give each run an --output of its own"
            raise ValueError(f"two formats would be written to {twice}; {fix}")
        return formats
