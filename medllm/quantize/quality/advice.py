"""What to try next, by what a quality report shows: each rule with the reason for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medllm.quantize.config import Format
from medllm.quantize.gguf.types import QUANTIZATION_TYPES, WITHOUT_IMPORTANCE

Quality = Mapping[str, Any]

ALIKE = 0.8
"""A share of same likeliest tokens below which a model is not its parent, whatever its loss: on
held-out text Q3_K_S keeps 88 %, Q4_K_M 94 % (docs/benchmarks/quality.json)."""
NEARLY_WHOLE = ("Q8_0", "F16", "BF16", "F32")
"""GGUF types that round too little for another likeliest token in so many places."""
HALF = 0.5
FEW_LAYERS = 0.1
"""Share of the layers: where so few hold half of the error, more bits for them cost little."""
ENOUGH_TEXTS = 128
"""Calibration texts of the GPTQ paper (Frantar et al. 2022), 2,048 tokens each."""
SMALLEST_GROUP = 32
SCALE_BITS = 16
"""Bits of a group's scale."""
LARGER_TYPES = ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_M", "Q2_K", "IQ3_XXS", "Q3_K_S", "Q3_K_M",
                "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")  # fmt: skip
"""Usual types by size, as llama-quantize's own list has them."""


def advise(quality: Quality, choice: Format, texts: int) -> list[str]:
    """What to try next, most promising first; where no loss can be shown, just that.

    `texts` is the number of calibration texts that the format used.
    """
    every = quality["texts"].get("all")
    if every is None:
        return []
    low, same = every["nats_lost"]["low"], every["top1_agreement"]["value"]
    is_lossless = low is None or low <= 0
    if same < ALIKE and getattr(choice, "type", None) in NEARLY_WHOLE:
        return [_miscomputed(choice.folder, same)]
    if is_lossless and same >= ALIKE:
        return ["nothing: the loss on these texts cannot be told from 0"]
    strange = _strange(every) if is_lossless else ()
    rules = [*strange, *_by_text(quality), *_by_layer(quality["layers"], choice)]
    settings = choice.model_dump()
    named = _for_gptq(settings, texts) if choice.format == "gptq" else ()
    typed = _for_gguf(settings, texts) if choice.format == "gguf" else ()
    return [*rules, *named, *typed]


def _miscomputed(name: str, same: float) -> str:
    """A file that is wrong, not rounded: the converter or llama.cpp does not know the model."""
    return (
        f"do not use {name}: the likeliest next token is the parent's in {same:.0%} of places "
        "only, and rounding to 8 bits cannot do that. llama.cpp computes another model than "
        "transformers: take another --format, or a newer llama.cpp"
    )


def _strange(every: Mapping[str, Any]) -> Iterator[str]:
    """A model that loses nothing and yet expects something else is not the one that was tuned."""
    kl, same = every["kl_mean"]["value"], every["top1_agreement"]["value"]
    yield (
        "more bits: it is another model than its parent, though no loss on these texts can be "
        f"shown; the likeliest next token is the parent's in {same:.0%} of places only (KL "
        f"{kl:.2g}). Look at its answers"
    )


def worst_layers(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The layers that together hold half of the error, worst first."""
    known = [row for row in layers if row["error"] is not None]
    half, found, total = HALF * sum(row["error"] for row in known), [], 0.0
    for row in known:
        if total >= half:
            break
        found.append(row["name"])
        total += row["error"]
    return found


def _by_text(quality: Quality) -> Iterator[str]:
    """What the kinds of text say about the calibration set."""
    texts, rare = quality["texts"], quality["terms"].get("rare")
    medical, general = texts.get("medical"), texts.get("general")
    if _loses_more(rare, medical):
        yield (
            "calibrate on text with more rare terms (boost_terms, a mix nearer to the use, more "
            "samples): rare terms lose more than the average token of the same texts, and what "
            "calibration never drives is quantized as if it did not matter"
        )
    if _loses_more(general, medical):
        yield (
            "raise calibrate.general_share, if the model is to read general text: that loses "
            "more than medical text"
        )
    if _loses_more(medical, general):
        yield "raise the share of medical calibration text: that loses more than general text"


def _loses_more(one: Quality | None, other: Quality | None) -> bool:
    """Whether the interval of one loss lies above that of another."""
    if not one or not other:
        return False
    low, high = one["nats_lost"]["low"], other["nats_lost"]["high"]
    return low is not None and high is not None and bool(low > high)


def _by_layer(layers: Sequence[Mapping[str, Any]], choice: Format) -> Iterator[str]:
    """What the quantizer's own errors say about the layers."""
    worst, bits = worst_layers(layers), getattr(choice, "bits", 8)
    if worst and len(worst) <= FEW_LAYERS * len(layers) and bits < 8:
        rule = ", ".join(f"'+:.*\\.{re.escape(name)}$': {{bits: 8}}" for name in worst)
        yield (
            f"give {len(worst)} of {len(layers)} modules 8 bits, which hold half of the error: "
            f"dynamic: {{{rule}}}"
        )
    if unknown := [row["name"] for row in layers if row["error"] is None]:
        yield (
            f"calibrate on more text: {len(unknown)} modules had too little to solve for and were "
            f"rounded ({', '.join(unknown[:3])}{' …' if len(unknown) > 3 else ''})"
        )


def _for_gptq(settings: Mapping[str, Any], texts: int) -> Iterator[str]:
    if texts < ENOUGH_TEXTS:
        yield f"calibrate on {ENOUGH_TEXTS} texts or more, the GPTQ paper's number, not {texts}"
    # LLaMA-7B at 4 bits: perplexity 7.15 → 6.09 (github.com/IST-DASLab/gptq, README)
    if not settings["desc_act"]:
        yield "desc_act: true, columns that matter first; inference is slower with some kernels"
    size = settings["group_size"]
    if size == -1 or size > SMALLEST_GROUP:
        # LLaMA-7B at 3 bits: 8.07 without groups, 6.61 with groups of 128 (same README)
        smaller = 128 if size == -1 else size // 2
        yield (
            f"group_size: {smaller}, a scale for fewer weights: {SCALE_BITS / smaller:.2g} bits "
            "a weight for scales"
        )
    if settings["bits"] < 8:
        yield f"bits: {min(bits for bits in (3, 4, 8) if bits > settings['bits'])}"


def _for_gguf(settings: Mapping[str, Any], texts: int) -> Iterator[str]:
    name = settings["type"]
    if not texts and name not in WITHOUT_IMPORTANCE and name in QUANTIZATION_TYPES:
        yield "an importance matrix: --calibration DIR, and imatrix: true"
    if name in LARGER_TYPES[:-1]:
        yield f"type: {LARGER_TYPES[LARGER_TYPES.index(name) + 1]}, the next larger usual one"
    elif name not in LARGER_TYPES:
        yield "a type with more bits, such as Q5_K_M or Q6_K"
