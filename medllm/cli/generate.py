"""`medllm generate`."""

import sys
from typing import Any

from medllm import console
from medllm.cli.options import MODEL, SEED, WRITING, option, run_verb, takes
from medllm.errors import ConfigError, DataError


@takes(SEED, *WRITING)
def generate(
    model: str | None = MODEL,
    prompt: str | None = option("One prompt, or - for stdin; the answer goes to stdout.", "TEXT"),
    system: str | None = option("What the model is told before it.", "TEXT"),
    input_: str | None = option("Prompts; answers go to generations.jsonl.", "FILE", "--input"),
    max_tokens: int | None = option("Longest answer.  [default: 256]"),
    temperature: float | None = option("0 is greedy decoding.  [default: 0]"),
    review: bool | None = option("Review the answers by clinical rules.", None, "--review"),
    **flags: Any,
) -> None:
    """Answer one prompt on the screen, or a file of prompts into a file; both can be interrupted.

    Example: medllm generate --model runs/lora/merge --prompt "What is sepsis?"
    """
    given = dict(locals())
    if prompt == "-":
        given["prompt"] = read_stdin()
    given["review"] = {} if review else None
    run_verb("generate", **given)


def read_stdin() -> str:
    """The text on stdin, without the line breaks at its end, as a shell's `$(…)` has it.

    Raises:
        DataError: it is not UTF-8.
        ConfigError: there is none.
    """
    if sys.stdin.isatty():
        console.notice("type the prompt; Ctrl-D ends it")
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as problem:
        raise DataError("the prompt on stdin is not UTF-8 text", "convert it to UTF-8") from problem
    if not text.strip():
        raise ConfigError("there is no prompt on stdin", "pipe one in, or name it: --prompt TEXT")
    return text.rstrip("\r\n")
