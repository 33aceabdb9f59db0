"""`medllm quantize`."""

from typing import Any

from medllm.cli.options import MODEL, WRITING, load_recipe_for, option, run_verb, takes
from medllm.errors import ConfigError

FORMATS = ("gptq", "gguf")


@takes(*WRITING)
def quantize(
    model: str | None = MODEL,
    format_: list[str] | None = option(
        "Repeatable.  [default: the recipe's, else gptq]", "gptq|gguf", "--format"
    ),
    bits: int | None = option("Bits of a GPTQ weight: 2, 3, 4, 8.  [default: 4]"),
    type_: list[str] | None = option(
        "GGUF type such as Q8_0; repeatable.  [default: Q4_K_M]", "TYPE", "--type"
    ),
    calibration: str | None = option(
        "What `medllm calibrate` wrote.  [default: the recipe's]", "DIR"
    ),
    sweep_samples: str | None = option(
        "Compare calibration sets of these sizes, and name the knee.", "N,N,…"
    ),
    **flags: Any,
) -> None:
    """Quantize a model to GPTQ and GGUF; each format gets a folder of its own.

    Example: medllm quantize --model runs/lora/merge --format gptq --format gguf --type Q4_K_M
    """
    formats = _formats(format_ or [], bits, type_ or [])
    own = {"model": model, "calibration": calibration, "formats": formats}
    if sweep_samples is None or flags["dry_run"]:
        run_verb("quantize", flags, **own)
        return
    if calibration:
        fix = "leave out --calibration; `calibrate:` of the recipe says what the sets are drawn of"
        raise ConfigError("--sweep-samples draws calibration sets of its own", fix)
    sizes = _sizes(sweep_samples)
    from medllm.study.walk import sweep_samples as sweep

    sweep(load_recipe_for("quantize", flags, **own), sizes)


def _sizes(text: str) -> list[int]:
    """The numbers of `128,256,512`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) for part in parts) or len(set(parts)) < 2:
        fix = "two or more numbers of texts: --sweep-samples 128,256,512,768,1024"
        raise ConfigError(f"--sweep-samples: not sizes to compare: {text}", fix)
    return [int(part) for part in parts]


def _formats(names: list[str], bits: int | None, types: list[str]) -> list[dict[str, Any]]:
    """The `formats:` list that the flags stand for; empty where none was given."""
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise ConfigError(f"unknown format '{unknown[0]}'", f"one of: {', '.join(FORMATS)}")
    if types and names and "gguf" not in names:
        raise ConfigError("--type belongs to --format gguf", "add --format gguf, or leave it out")
    if bits and names and "gptq" not in names:
        raise ConfigError("--bits belongs to --format gptq", "for GGUF name a --type")
    chosen: list[dict[str, Any]] = []
    if "gptq" in names or (bits and not names):
        chosen.append({"format": "gptq", **({"bits": bits} if bits else {})})
    if "gguf" in names or (types and not names):
        chosen += [{"format": "gguf", "type": type_} for type_ in types or ["Q4_K_M"]]
    return chosen
