"""`medllm quantize`."""

from typing import Any

from medllm import console
from medllm.cli.options import BASE, WRITING, option, run_verb, takes
from medllm.errors import ConfigError
from medllm.quantize.gguf.types import QUANTIZATION_TYPES

FORMATS = ("gptq", "awq", "gguf", "bnb", "fp8", "w8a8")
KNOWN = "|".join(FORMATS)
BITS = ("gptq", "awq")
"""The formats that --bits belongs to."""
TYPES = {"bnb": ("type", ("nf4", "int8")), "fp8": ("scheme", ("dynamic", "static"))}
"""Format → the key that --type sets, and its values; any other type is one of GGUF."""
GGUF_DEFAULT = "Q4_K_M"
NAMED_TYPES = "|".join([*QUANTIZATION_TYPES, "nf4", "int8", "dynamic", "static"])


@takes(*WRITING)
def quantize(
    model: str | None = BASE,
    format_: list[str] | None = option(
        "Repeatable.  [default: the recipe's, else gptq]", KNOWN, "--format"
    ),
    bits: int | None = option("Bits of a weight: GPTQ 2, 3, 4, 8; AWQ 4.  [default: 4]"),
    type_: list[str] | None = option(
        "GGUF type such as Q8_0, bnb nf4|int8, fp8 dynamic|static; repeatable.  "
        "[default: Q4_K_M, nf4, dynamic]",
        "TYPE",
        "--type",
        NAMED_TYPES,
    ),
    calibration: str | None = option(
        "What `medllm calibrate` wrote.  [default: the recipe's]", "DIR"
    ),
    sweep_samples: str | None = option(
        "Compare calibration sets of these sizes, and name the knee.", "N,N,…"
    ),
    **flags: Any,
) -> None:
    """Quantize a model to one or more formats; each gets a folder of its own.

    Example: medllm quantize --model runs/lora/merge --format gptq --format gguf --type Q4_K_M
    """
    formats = _formats(format_ or [], bits, type_ or [])
    own = {"model": model, "calibration": calibration, "formats": formats}
    if sweep_samples is None or flags["dry_run"]:
        run_verb("quantize", flags, **own)
        return
    if calibration:
        fix = (
            "leave out --calibration; `calibrate:` of the recipe says what the sets are drawn from"
        )
        raise ConfigError("--sweep-samples draws calibration sets of its own", fix)
    from medllm.plan import recipe_of_flags
    from medllm.study.walk import read_sizes
    from medllm.study.walk import sweep_samples as sweep

    sizes = read_sizes(sweep_samples)
    console.report(study=sweep(recipe_of_flags("quantize", flags, **own), sizes))


def _formats(names: list[str], bits: int | None, types: list[str]) -> list[dict[str, Any]]:
    """The `formats:` list that the flags stand for; empty where none was given."""
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        from medllm.data.near_misses import meant_format

        meant = meant_format(unknown[0], FORMATS, [*QUANTIZATION_TYPES])
        raise ConfigError(f"unknown format '{unknown[0]}'", f"{meant}one of: {', '.join(FORMATS)}")
    chosen = dict.fromkeys(names or [*(["gptq"] if bits else []), *map(_owner, types)])
    for type_ in types:
        if _owner(type_) not in chosen:
            known = (f"{name}: {', '.join(values)}" for name, (_, values) in TYPES.items())
            fix = f"add --format {_owner(type_)}, or leave it out ({'; '.join(known)})"
            raise ConfigError(f"--type {type_} belongs to --format {_owner(type_)}", fix)
    if bits and not chosen.keys() & BITS:
        fix = "for the other formats name a --type"
        raise ConfigError("--bits belongs to --format gptq and awq", fix)
    return [each for name in chosen for each in _choices(name, bits, types)]


def _owner(type_: str) -> str:
    """The format that a type is one of."""
    return next((name for name, (_, values) in TYPES.items() if type_.lower() in values), "gguf")


def _choices(name: str, bits: int | None, types: list[str]) -> list[dict[str, Any]]:
    own = [type_ for type_ in types if _owner(type_) == name]
    if name in BITS and bits:
        return [{"format": name, "bits": bits}]
    key = TYPES[name][0] if name in TYPES else "type"
    default = [{"format": name, "type": GGUF_DEFAULT}] if name == "gguf" else [{"format": name}]
    return [{"format": name, key: type_} for type_ in own] or default
