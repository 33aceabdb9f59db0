"""`medllm evaluate`."""

from pathlib import Path

from medllm.cli import options
from medllm.cli.options import option


def evaluate(
    models: list[str] | None = option(
        "--model", "Model, adapter or GPTQ folder, .gguf file; repeatable.", "REF"
    ),
    tasks: str | None = option("--tasks", "Names, with commas.  [default: answers]", "A,B"),
    limit: int | None = option("--limit", "At most so many items of each task."),
    data: Path | None = option("--data", "What `medllm prepare` wrote, for `answers`.", "DIR"),
    seed: int | None = options.SEED,
    data_use: list[str] | None = options.ACCEPT_TERMS,
    data_dir: Path | None = options.DATA_DIR,
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Score models side by side, each score with its 95 % interval and a record of every item.

    Example: medllm evaluate --model ./base --model runs/lora/merge --tasks pubmedqa --limit 200
    """
    flags = locals()
    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    options.run_verb("evaluate", {**flags, "tasks": names})
