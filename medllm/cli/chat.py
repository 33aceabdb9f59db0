"""`medllm chat`."""

from typing import Any

from medllm.cli.options import ASKED, CONFIG, SEED, SET, option, takes
from medllm.cli.voice import refuse_json


@takes(SEED, CONFIG, SET)
def chat(
    model: str | None = ASKED,
    system: str | None = option("What the model is told before the conversation.", "TEXT"),
    max_tokens: int | None = option("Longest answer.  [default: 256]"),
    temperature: float | None = option("0 is greedy decoding.  [default: 0]"),
    top_p: float | None = option("Nucleus sampling.  [default: 1]"),
    top_k: int | None = option("The likeliest tokens that may be drawn; 0: all.  [default: 0]"),
    min_p: float | None = option("Share of the likeliest's probability.  [default: 0]"),
    repetition_penalty: float | None = option("Above 1 repeats less.  [default: 1]"),
    review: bool | None = option("Review the answers by clinical rules.", None, "--review"),
    n_ctx: int | None = option("Tokens of context."),
    **flags: Any,
) -> None:
    """Talk with a model in the terminal; the answers come as they are written.

    /reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer. Nothing is kept on the disk.
    What is piped in is answered line by line.

    Example: medllm chat --model runs/lora/merge --system "Answer in one sentence."
    """
    own = {key: value for key, value in locals().items() if key != "flags"}
    own["review"] = {} if review else None
    refuse_json("chat")
    from medllm.cli.near_misses import check_models
    from medllm.generate.chat import chat as talk
    from medllm.plan import recipe_of_flags
    from medllm.recipe import wire

    check_models(own)
    talk(wire(recipe_of_flags("generate", flags, **own), "generate"))
