"""`medllm finetune`."""

from typing import Any

import typer

from medllm.cli.options import BASE, READING, WRITING, option, run_verb, takes


@takes(*READING, *WRITING)
def finetune(
    model: str | None = BASE,
    data: str | None = option("What `medllm prepare` wrote.  [default: the recipe's]", "DIR"),
    resume: bool | None = typer.Option(
        None, "--resume/--no-resume", help="Resume from the newest checkpoint.  [default: resume]"
    ),
    **flags: Any,
) -> None:
    """Train a LoRA adapter, or all weights, on prepared data, with loss on the answers only.

    Example: medllm finetune --config lora.yaml --model ./llama-3-8b --data runs/lora/prepare
    """
    run_verb("finetune", **locals())
