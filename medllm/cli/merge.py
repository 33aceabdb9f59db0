"""`medllm merge`."""

from pathlib import Path

from medllm.cli import options
from medllm.cli.options import option


def merge(
    adapter: Path | None = option(
        "--adapter", "What `medllm finetune` or PEFT wrote.  [default: the recipe's]", "DIR"
    ),
    model: str | None = option("--model", "The base.  [default: what the adapter names]", "REF"),
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Fold an adapter into its base, and prove that the result computes the same.

    Example: medllm merge --adapter runs/lora/finetune --output runs/lora/merge
    """
    options.run_verb("merge", locals())
