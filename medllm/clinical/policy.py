"""What an operator wants done with findings."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from medllm.clinical.finding import SEVERITIES, Finding, Severity
from medllm.errors import ConfigError, did_you_mean

Action = Literal["annotate", "append", "block"]
Region = Literal["us", "uk", "in", "eu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a review acts.

    `action`: `annotate` leaves the answer as it is, `append` adds the warnings below it, and puts
    what to do in an emergency before it; `block` also withholds an answer with a finding of
    `block_from` or worse that may block. `region` chooses emergency numbers and names; without
    one no number is given. `block_unverified` lets rules block that nobody has verified; the
    report says so.

    Raises:
        ConfigError: one of them is not among these words.
    """

    action: Action = "annotate"
    block_from: Severity = "contraindicated"
    block_unverified: bool = False
    region: Region | None = None

    def __post_init__(self) -> None:
        """Check the words, which may come from anywhere."""
        _check("action", self.action, get_args(Action))
        _check("block_from", self.block_from, SEVERITIES)
        _check("region", self.region, (None, *get_args(Region)))

    def blocks(self, finding: Finding) -> bool:
        """Whether this finding withholds the answer."""
        return (
            self.action == "block"
            and SEVERITIES.index(finding.severity) >= SEVERITIES.index(self.block_from)
            and finding.basis.may_block(block_unverified=self.block_unverified)
        )

    def to_json(self) -> dict[str, Any]:
        """The policy as plain data."""
        return asdict(self)


def _check(key: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        words = [each for each in known if each]
        fix = f"{did_you_mean(str(value), words)}known are {', '.join(words)}"
        raise ConfigError(f"policy: {key} cannot be '{str(value):.40}'", fix)
