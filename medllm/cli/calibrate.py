"""`medllm calibrate`."""

from pathlib import Path

from medllm.cli import options
from medllm.cli.options import option


def calibrate(
    mix: str | None = option("--mix", "Name of a mix of datasets.  [default: pubmedqa]"),
    samples: int | None = option("--samples", "Texts in the set.  [default: 512]"),
    seed: int | None = options.SEED,
    tokenizer: str | None = option(
        "--tokenizer", "Whose tokens are counted.  [default: the recipe's model]", "REF"
    ),
    min_tokens: int | None = option("--min-tokens", "Shortest text.  [default: 256]"),
    max_tokens: int | None = option("--max-tokens", "Longest text.  [default: 4096]"),
    data_use: list[str] | None = options.ACCEPT_TERMS,
    data_dir: Path | None = options.DATA_DIR,
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Build the text that quantizers look at, from a mix of datasets.

    Example: medllm calibrate --mix pubmedqa --samples 256 --tokenizer ./llama-3-8b
    """
    options.run_verb("calibrate", locals())
