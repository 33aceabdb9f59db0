"""`medllm calibrate`."""

from pathlib import Path
from typing import Any

import typer

from medllm import console
from medllm.cli.options import READING, WRITING, option, refuse_unread, run_verb, takes


@takes(*READING, *WRITING)
def calibrate(
    context: typer.Context,
    mix: str | None = option("Name of a mix of datasets.  [default: pubmedqa]", takes="mix"),
    samples: int | None = option("Medical texts in the set.  [default: 512]"),
    tokenizer: str | None = option(
        "Whose tokens are counted.  [default: the recipe's model]", "REF", None, "model"
    ),
    min_tokens: int | None = option("Shortest text.  [default: 256]"),
    max_tokens: int | None = option("Longest text.  [default: 4096]"),
    over_length: str | None = option(
        "What happens to longer ones.  [default: drop]", "drop|truncate|split"
    ),
    general_share: float | None = option(
        "General texts on top, as a share of the samples.  [default: 0]"
    ),
    boost_terms: str | None = option(
        "Take texts with these terms first.", "radiology|pathology|cardiology|FILE"
    ),
    on_shortage: str | None = option(
        "When a dataset has too few texts.  [default: error]", "error|rebalance"
    ),
    analyze: str | None = option("Only report on a file of texts.", "FILE"),
    **flags: Any,
) -> None:
    """Build the text that quantizers look at, from a mix of datasets.

    Example: medllm calibrate --mix radiology --tokenizer ./llama-3-8b
    """
    own = {
        key: value for key, value in locals().items() if key not in ("context", "flags", "analyze")
    }
    if analyze is None:
        run_verb("calibrate", flags, **own)
        return
    unread = own | {key: flags[key] for key in ("seed", "overwrite", "dry_run")}
    refuse_unread(context, "--analyze", unread | {"tokenizer": None})
    from medllm.calibrate.inspect import analyze as analyze_file
    from medllm.plan import recipe_of_flags
    from medllm.recipe import wire

    output = flags["output"]
    section = wire(recipe_of_flags("calibrate", flags, **own), "calibrate")
    found = analyze_file(Path(analyze), section, Path(output) if output else None)
    console.report(statistics=found)
