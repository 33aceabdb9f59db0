"""`medllm merge`."""

from typing import Any

from medllm.cli.options import WRITING, option, run_verb, takes


@takes(*WRITING)
def merge(
    adapter: str | None = option(
        "What `medllm finetune` or PEFT wrote.  [default: the recipe's]", "DIR"
    ),
    model: str | None = option(
        "The base.  [default: what the adapter names]", "REF", None, "model"
    ),
    **flags: Any,
) -> None:
    """Fold an adapter into its base, and prove that the result computes the same.

    Example: medllm merge --adapter runs/lora/finetune --output runs/lora/merge
    """
    run_verb("merge", **locals())
