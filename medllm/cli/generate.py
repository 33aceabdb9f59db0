"""`medllm generate`."""

from pathlib import Path

from medllm.cli import options
from medllm.cli.options import option


def generate(
    model: str | None = options.MODEL,
    prompt: str | None = option("--prompt", "One prompt; the answer goes to the screen.", "TEXT"),
    input_: Path | None = option("--input", "Prompts; answers go to generations.jsonl.", "FILE"),
    max_tokens: int | None = option("--max-tokens", "Longest answer.  [default: 256]"),
    temperature: float | None = option("--temperature", "0 is greedy decoding.  [default: 0]"),
    seed: int | None = options.SEED,
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    output: Path | None = options.OUTPUT,
    overwrite: bool = options.OVERWRITE,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Answer one prompt on the screen, or a file of prompts into a file; both can be interrupted.

    Example: medllm generate --model runs/lora/merge --prompt "What is sepsis?"
    """
    flags = locals()
    if prompt is None or dry_run:
        options.run_verb("generate", flags)
        return
    from medllm import console
    from medllm.generate.verb import stream_answer
    from medllm.recipe import wire

    for text in stream_answer(wire(options.load_recipe_for("generate", flags), "generate")):
        console.show_text(text, end="")
    console.show_text("")
