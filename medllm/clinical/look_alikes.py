"""Names that are easily taken for each other, in sentences that only one of them fits."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medllm.config.loader import read_yaml

LOOK_ALIKES = Path(__file__).parent / "knowledge" / "look_alikes.yaml"
GAP = "{}"


@dataclass(frozen=True, slots=True)
class LookAlike:
    """The same sentence with the name that fits, and with the one that looks like it."""

    fitting: str
    mistaken: str
    names: tuple[str, str] = ("", "")
    """The name that fits, and the other one."""
    source: str = ""
    """The list that has the pair of names."""


@cache
def look_alikes() -> tuple[LookAlike, ...]:
    """The minimal pairs; the file's head names their sources.

    Each pair of names is asked both ways, so that the commoner name gains nothing on the whole.
    """
    groups = read_yaml(LOOK_ALIKES).data["groups"]
    return tuple(
        LookAlike(
            sentence.replace(GAP, fitting),
            sentence.replace(GAP, mistaken),
            (fitting, mistaken),
            group["source"],
        )
        for group in groups
        for pair in group["pairs"]
        for (fitting, sentence), mistaken in zip(pair.items(), reversed(pair), strict=True)
    )
