"""`medllm generate`."""

import sys
from typing import Any

from medllm import console
from medllm.cli.options import ASKED, SEED, WRITING, option, run_verb, takes
from medllm.errors import ConfigError, DataError


@takes(SEED, *WRITING)
def generate(
    model: str | None = ASKED,
    prompt: str | None = option("One prompt, or - for stdin; the answer goes to stdout.", "TEXT"),
    system: str | None = option("What the model is told before it.", "TEXT"),
    input_: str | None = option("Prompts; answers go to generations.jsonl.", "FILE", "--input"),
    max_tokens: int | None = option("Longest answer.  [default: 256]"),
    temperature: float | None = option("0 is greedy decoding.  [default: 0]"),
    top_p: float | None = option("Nucleus sampling.  [default: 1]"),
    top_k: int | None = option("The likeliest tokens that may be drawn; 0: all.  [default: 0]"),
    min_p: float | None = option("Share of the likeliest's probability.  [default: 0]"),
    repetition_penalty: float | None = option("Above 1 repeats less.  [default: 1]"),
    num_beams: int | None = option("Answers followed at once; transformers.  [default: 1]"),
    length_penalty: float | None = option("Of beams; above 1 longer.  [default: 1]"),
    batch_size: int | None = option("Answers written together.  [default: 8 on a CPU]"),
    abstain_below: float | None = option("Mark answers of less confidence.  [default: none]"),
    review: bool | None = option("Review the answers by clinical rules.", None, "--review"),
    **flags: Any,
) -> None:
    """Answer one prompt on the screen, or a file of prompts into a file; both can be interrupted.

    Other options of sampling, such as stop and frequency_penalty, are set as --set generate.stop=…

    Example: medllm generate --model runs/lora/merge --prompt "What is sepsis?"
    """
    given = dict(locals())
    if prompt is not None and input_ is not None:
        message = "--prompt is answered on the screen, --input into a file: one command does one"
        raise ConfigError(message, "leave one of them out")
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
