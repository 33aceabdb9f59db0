"""`medllm prepare`."""

from typing import Any

from medllm.cli.options import READING, WRITING, option, run_verb, takes


@takes(*READING, *WRITING)
def prepare(
    datasets: list[str] | None = option(
        "A dataset's name, or your own file or folder; repeatable.",
        "NAME_OR_PATH",
        "--dataset",
        "dataset",
    ),
    task: str | None = option(
        "The task whose words are put around the rows: qa, mcq, summarize, …", takes="task"
    ),
    format_: str | None = option(
        "messages: JSONL that other trainers read, too.  [default: jsonl]",
        "jsonl|messages|csv",
        "--format",
    ),
    workers: int | None = option("Processes.  [default: one a processor, at most 8]"),
    max_examples: int | None = option("Cap for each dataset and split."),
    **flags: Any,
) -> None:
    """Make train, validation and test files, with a reason for every row left out.

    After an interruption the same command resumes. Nothing that a note says is cleaned away.

    Example: medllm prepare --dataset pubmedqa --dataset ./notes.jsonl
    """
    run_verb("prepare", **locals())
