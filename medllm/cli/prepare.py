"""`medllm prepare`."""

from pathlib import Path

from medllm.cli import options
from medllm.cli.options import option


def prepare(
    datasets: list[str] | None = option(
        "--dataset", "A dataset's name, or your own file or folder; repeatable.", "NAME_OR_PATH"
    ),
    max_examples: int | None = option("--max-examples", "Cap for each dataset and split."),
    seed: int | None = options.SEED,
    data_use: list[str] | None = options.ACCEPT_TERMS,
    data_dir: Path | None = options.DATA_DIR,
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Make train, validation and test files, with a reason for every row left out.

    Example: medllm prepare --dataset pubmedqa --dataset ./notes.jsonl
    """
    options.run_verb("prepare", locals())
