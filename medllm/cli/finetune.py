"""`medllm finetune`."""

from pathlib import Path

import typer

from medllm.cli import options
from medllm.cli.options import option


def finetune(
    model: str | None = options.MODEL,
    data: Path | None = option(
        "--data", "What `medllm prepare` wrote.  [default: the recipe's]", "DIR"
    ),
    resume: bool | None = typer.Option(
        None, "--resume/--no-resume", help="Go on from the newest checkpoint.  [default: resume]"
    ),
    seed: int | None = options.SEED,
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Train a LoRA adapter on prepared data, with loss on the answers only.

    Example: medllm finetune --config lora.yaml --model ./llama-3-8b --data runs/lora/prepare
    """
    flags = locals()
    if resume is False:
        set_ = [*(set_ or []), "finetune.resume=false"]
    options.run_verb("finetune", {**flags, "set_": set_})
