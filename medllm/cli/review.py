"""`medllm review`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medllm.cli.options import option


def review(
    input_: Annotated[
        Path, typer.Option("--input", metavar="FILE", help="Answers: JSONL, CSV, Parquet or text.")
    ],
    output: str | None = option("Folder of the findings.  [default: runs/review]", "DIR"),
    policy: str | None = option("What becomes of answers.", "annotate|append|block"),
    block_from: str | None = option(
        "Withheld from this severity on.  [default: contraindicated]",
        "minor|moderate|major|contraindicated",
    ),
    block_unverified: bool | None = option(
        "Rules that nobody has verified may withhold, too.", None, "--block-unverified"
    ),
    region: str | None = option("Whose emergency numbers are given.", "us|uk|in|eu"),
    rules: str | None = option("A folder of rules of your own, which join ours.", "DIR"),
    context: str | None = option("The column with what is known of the patient.", "COLUMN"),
    fail_on: str | None = option(
        "Exit with 6 where a finding is so severe, or an answer is not in English.",
        "info|minor|moderate|major|contraindicated",
    ),
    fhir: bool | None = option("Write OperationOutcomes of FHIR R4, too.", None, "--fhir"),
    show_text: bool | None = option("Show the words that findings rest on.", None, "--show-text"),
    overwrite: bool | None = option("Replace findings that no review wrote.", None, "--overwrite"),
) -> None:
    """Review answers against clinical rules: doses, interactions, red flags and more.

    A safety net for finding errors, no medical device. Columns: answer, question, and context with
    what is known of the patient.

    Example: medllm review --input runs/lora/generate/generations.jsonl --fail-on major
    """
    given = {"action": policy, "block_from": block_from, "region": region}
    run(
        Path(input_),
        {key: value for key, value in given.items() if value is not None},
        block_unverified=bool(block_unverified),
        output=Path(output or "runs/review"),
        rules=Path(rules) if rules else None,
        context=context,
        fail_on=fail_on,
        as_fhir=bool(fhir),
        show_text=bool(show_text),
        overwrite=bool(overwrite),
    )


def run(source: Path, policy: dict[str, Any], *, block_unverified: bool, **own: Any) -> None:
    """Check the words of the flags, and review.

    Raises:
        ConfigError: a flag is none of its words.
    """
    from medllm.cli.voice import places_only
    from medllm.clinical.finding import SEVERITIES
    from medllm.clinical.policy import Policy
    from medllm.errors import ConfigError, did_you_mean
    from medllm.review import ReviewTask
    from medllm.review import review as review_file

    if own["fail_on"] not in (None, *SEVERITIES):
        fix = f"{did_you_mean(own['fail_on'], SEVERITIES)}known are {', '.join(SEVERITIES)}"
        raise ConfigError(f"--fail-on: no severity '{own['fail_on']:.40}'", fix)
    chosen = Policy(**policy, block_unverified=block_unverified)
    with places_only():
        review_file(ReviewTask(source=source, policy=chosen, **own))
